//! Which file of a crate uses what another one declares, found by resolving names as the compiler
//! does: through child modules, imports and re-exports.

use std::collections::BTreeMap;

use super::modules::{Import, Module};

/// How many re-exports may lead from a name to its declaration.
const REEXPORTS_MAX: usize = 16;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Module(usize),
    /// Something that this module declares.
    ItemOf(usize),
}

/// One file uses what another declares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileImport {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) line: usize,
}

/// Which file uses which, once for each pair, sorted.
pub(super) fn file_imports(modules: &[Module]) -> Vec<FileImport> {
    Resolver(modules).file_imports()
}

/// The modules of one crate, the root first.
struct Resolver<'a>(&'a [Module]);

impl Resolver<'_> {
    fn file_imports(&self) -> Vec<FileImport> {
        let mut found: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut add = |from: usize, target: usize, line| {
            let (from, to) = (&*self.0[from].file, &*self.0[target].file);
            if from != to {
                found.entry((from, to)).or_insert(line);
            }
        };
        for (index, module) in self.0.iter().enumerate() {
            for used in &module.paths {
                // A name that an import brought here: the import is counted, below.
                let is_imported = used.path.len() == 1 && !self.is_reexport(index, &used.path[0]);
                if let Some(Target::ItemOf(target)) = self.resolve(index, &used.path, 0)
                    && !is_imported
                {
                    add(index, target, used.line);
                }
            }
            for import in &module.imports {
                match self.resolve(index, &import.path, 0) {
                    Some(Target::ItemOf(target)) if !self.offers(index, import, target) => {
                        add(index, target, import.line);
                    }
                    // What a module is imported for are the paths that begin with it, except `*`.
                    Some(Target::Module(target))
                        if import.alias.is_none() && !self.offers(index, import, target) =>
                    {
                        add(index, target, import.line);
                    }
                    _ => {}
                }
            }
        }
        let import = |((from, to), line): ((&str, &str), usize)| FileImport {
            from: from.to_owned(),
            to: to.to_owned(),
            line,
        };
        found.into_iter().map(import).collect()
    }

    /// Whether `module` re-exports `name` from below itself, so that using it is what counts.
    fn is_reexport(&self, module: usize, name: &str) -> bool {
        let imports = self.0[module].imports.iter();
        let mut named = imports.filter(|import| import.alias.as_deref() == Some(name));
        named.any(|import| match self.resolve(module, &import.path, 0) {
            Some(Target::ItemOf(target)) => self.offers(module, import, target),
            _ => false,
        })
    }

    /// Whether the import only offers to others what is declared below `module`.
    fn offers(&self, module: usize, import: &Import, mut target: usize) -> bool {
        while let Some(parent) = self.0[target].parent {
            if parent == module {
                return import.is_public;
            }
            target = parent;
        }
        false
    }

    fn resolve(&self, module: usize, path: &[String], reexports: usize) -> Option<Target> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.descend(0, rest, reexports),
            "self" => self.descend(module, rest, reexports),
            "super" => self.climb(module, rest, reexports),
            name => {
                let known = &self.0[module];
                let is_imported = |import: &Import| import.alias.as_deref() == Some(name);
                let is_known =
                    known.children.contains_key(name) || known.imports.iter().any(is_imported);
                is_known
                    .then(|| self.descend(module, path, reexports))
                    .flatten()
            }
        }
    }

    fn climb(&self, module: usize, rest: &[String], reexports: usize) -> Option<Target> {
        let parent = self.0[module].parent?;
        match rest.split_first() {
            Some((next, rest)) if next == "super" => self.climb(parent, rest, reexports),
            _ => self.descend(parent, rest, reexports),
        }
    }

    /// Follows `path` from `module`, through its children and what it imports.
    fn descend(&self, module: usize, path: &[String], reexports: usize) -> Option<Target> {
        let Some((name, rest)) = path.split_first() else {
            return Some(Target::Module(module));
        };
        let here = &self.0[module];
        if let Some(child) = here.children.get(name) {
            return self.descend(*child, rest, reexports);
        }
        if here.items.contains(name) {
            return Some(Target::ItemOf(module));
        }
        if reexports == REEXPORTS_MAX {
            return None;
        }
        let is_imported = |import: &&Import| import.alias.as_ref() == Some(name);
        if let Some(import) = here.imports.iter().find(is_imported) {
            // An import that names itself would never end.
            let path = [&import.path, rest].concat();
            return self.resolve_import(module, &path, reexports + 1);
        }
        for star in here.imports.iter().filter(|import| import.alias.is_none()) {
            if let Some(Target::Module(other)) = self.resolve(module, &star.path, reexports + 1)
                && self.declares(other, name)
            {
                return self.descend(other, path, reexports + 1);
            }
        }
        // Made by a macro, perhaps.
        Some(Target::ItemOf(module))
    }

    /// Like `resolve`, where a first name that is not a child belongs to another crate.
    fn resolve_import(&self, module: usize, path: &[String], reexports: usize) -> Option<Target> {
        let first = path.first()?.as_str();
        let is_ours = ["crate", "self", "super"].contains(&first)
            || self.0[module].children.contains_key(first);
        is_ours
            .then(|| self.resolve(module, path, reexports))
            .flatten()
    }

    fn declares(&self, module: usize, name: &str) -> bool {
        let module = &self.0[module];
        let is_imported = |import: &Import| import.alias.as_deref() == Some(name);
        module.items.contains(name)
            || module.children.contains_key(name)
            || module.imports.iter().any(is_imported)
    }
}

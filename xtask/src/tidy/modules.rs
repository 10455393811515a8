//! The modules of our crates, read from their sources: what each declares, imports and uses.
//!
//! Code that only tests contain is left out: items under `#[cfg(test)]`, and modules called `tests`.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Expr, Ident, ImplItem, Item, Lit, Meta, UseTree, Visibility,
    visit::{self, Visit},
};

use super::tree::{Rule, Tree, Violation};

/// A module: a file, or an inline `mod name { … }` in one.
pub(super) struct Module {
    /// The file that it is in.
    pub(super) file: String,
    /// The types that it declares with any `pub`, by name and line.
    pub(super) public_types: Vec<(String, usize)>,
    pub(super) parent: Option<usize>,
    pub(super) children: BTreeMap<String, usize>,
    pub(super) items: BTreeSet<String>,
    pub(super) imports: Vec<Import>,
    pub(super) paths: Vec<UsedPath>,
}

/// One name of a `use`.
pub(super) struct Import {
    pub(super) path: Vec<String>,
    /// What it is called here; `None` for `*`.
    pub(super) alias: Option<String>,
    pub(super) is_public: bool,
    pub(super) line: usize,
}

/// A path of one or more segments in an expression, a type or a macro.
pub(super) struct UsedPath {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

/// Reads the modules, the root first, of every crate under `bench/`, `crates/`, `testing/` and `xtask/`. Programs, examples and test programs
/// of a package are crates of their own. A file that is not Rust is a violation.
pub(super) fn crates(tree: &Tree) -> (Vec<Vec<Module>>, Vec<Violation>) {
    let mut crates = Vec::new();
    let mut violations = Vec::new();
    for text in tree
        .0
        .iter()
        .filter(|text| text.is(&["rs"]) && is_root(&text.path))
    {
        let mut reader = Reader {
            tree,
            modules: Vec::new(),
            violations: Vec::new(),
        };
        reader.file(&text.path, None, folder(&text.path));
        crates.push(reader.modules);
        violations.append(&mut reader.violations);
    }
    (crates, violations)
}

/// Whether a crate begins with this Rust file.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let (["crates" | "testing", _, inside @ ..] | ["bench" | "xtask", inside @ ..]) =
        parts.as_slice()
    else {
        return false;
    };
    matches!(
        inside,
        ["src", "lib.rs" | "main.rs"]
            | ["src", "bin", _]
            | ["tests" | "examples" | "benches", _]
            | ["tests" | "examples" | "benches", _, "main.rs"]
    )
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

struct Reader<'a> {
    tree: &'a Tree,
    modules: Vec<Module>,
    violations: Vec<Violation>,
}

impl Reader<'_> {
    /// Reads a module with a file of its own; its children have theirs in `folder`.
    fn file(&mut self, path: &str, parent: Option<usize>, folder: &str) -> Option<usize> {
        let text = self.tree.get(path)?;
        match syn::parse_file(&text.text) {
            Ok(file) => Some(self.module(path, parent, folder, &file.items)),
            Err(error) => {
                let line = error.span().start().line;
                let message = format!("cannot be read as Rust: {error}");
                let violation = Violation::new(Rule::Cycles, path, line, message);
                self.violations.push(violation);
                None
            }
        }
    }

    fn module(&mut self, file: &str, parent: Option<usize>, folder: &str, items: &[Item]) -> usize {
        let index = self.modules.len();
        self.modules.push(Module {
            file: file.to_owned(),
            public_types: Vec::new(),
            parent,
            children: BTreeMap::new(),
            items: BTreeSet::new(),
            imports: Vec::new(),
            paths: Vec::new(),
        });
        for item in items.iter().filter(|item| !is_test(item_attributes(item))) {
            if let Item::Mod(module) = item {
                self.child(index, folder, module);
                continue;
            }
            let here = &mut self.modules[index];
            if let Some((name, visibility)) = declared(item) {
                here.items.insert(name.to_string());
                if let Some(Visibility::Public(_) | Visibility::Restricted(_)) = visibility {
                    let line = name.span().start().line;
                    here.public_types.push((name.to_string(), line));
                }
            }
            here.visit_item(item);
        }
        index
    }

    fn child(&mut self, parent: usize, folder: &str, module: &syn::ItemMod) {
        let name = module.ident.to_string();
        let file = self.modules[parent].file.clone();
        let folder_of_child = format!("{folder}/{name}");
        let child = if let Some((_, items)) = &module.content {
            Some(self.module(&file, Some(parent), &folder_of_child, items))
        } else if name == "tests" {
            None
        } else {
            let path = match path_attribute(&module.attrs) {
                Some(path) => format!("{}/{path}", self::folder(&file)),
                None => format!("{folder_of_child}.rs"),
            };
            self.file(&path, Some(parent), &folder_of_child)
        };
        if let Some(child) = child {
            self.modules[parent].children.insert(name, child);
        }
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(item_attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let is_test = matches!(item, ImplItem::Fn(function) if is_test(&function.attrs));
        if !is_test {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_test(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_public = !matches!(item.vis, Visibility::Inherited);
        if item.leading_colon.is_none() {
            self.import(&item.tree, &[], is_public);
        }
    }

    /// The path of `pub(in path)` is no use of anything.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let segments = path.segments.iter();
            self.paths.push(UsedPath {
                path: segments.map(|segment| segment.ident.to_string()).collect(),
                line: path
                    .segments
                    .first()
                    .map_or(1, |first| first.ident.span().start().line),
            });
        }
        visit::visit_path(self, path);
    }

    /// What is in a macro's brackets is no syntax tree, but paths can be seen in it.
    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.paths_in(invocation.tokens.clone());
        visit::visit_macro(self, invocation);
    }
}

impl Module {
    fn import(&mut self, tree: &UseTree, prefix: &[String], is_public: bool) {
        let with = |name: &Ident| [prefix, &[name.to_string()]].concat();
        let (path, alias, line) = match tree {
            UseTree::Path(path) => {
                return self.import(&path.tree, &with(&path.ident), is_public);
            }
            UseTree::Group(group) => {
                let mut trees = group.items.iter();
                return trees
                    .by_ref()
                    .for_each(|tree| self.import(tree, prefix, is_public));
            }
            UseTree::Glob(glob) => (prefix.to_vec(), None, glob.star_token.spans[0]),
            UseTree::Rename(rename) => {
                let path = if rename.ident == "self" {
                    prefix.to_vec()
                } else {
                    with(&rename.ident)
                };
                (path, Some(rename.rename.to_string()), rename.ident.span())
            }
            UseTree::Name(name) => {
                let is_prefix = name.ident == "self" && !prefix.is_empty();
                let path = if is_prefix {
                    prefix.to_vec()
                } else {
                    with(&name.ident)
                };
                let alias = path.last().cloned();
                (path, alias, name.ident.span())
            }
        };
        self.imports.push(Import {
            path,
            alias,
            is_public,
            line: line.start().line,
        });
    }

    fn paths_in(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        let mut is_member = false;
        for token in tokens {
            match &token {
                TokenTree::Ident(name) => {
                    // `a b`, or the first name after something else: a new path.
                    if colons != 2 || path.is_empty() {
                        self.end_path(&mut path, line);
                        line = name.span().start().line;
                    }
                    if !std::mem::take(&mut is_member) {
                        path.push(name.to_string());
                    }
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.end_path(&mut path, line);
                    colons = 0;
                    is_member = matches!(other, TokenTree::Punct(punct) if punct.as_char() == '.');
                    if let TokenTree::Group(group) = other {
                        self.paths_in(group.stream());
                    }
                }
            }
        }
        self.end_path(&mut path, line);
    }

    fn end_path(&mut self, path: &mut Vec<String>, line: usize) {
        if !path.is_empty() {
            let path = std::mem::take(path);
            self.paths.push(UsedPath { path, line });
        }
    }
}

/// The name that an item declares; with its visibility, if it is a type.
fn declared(item: &Item) -> Option<(&Ident, Option<&Visibility>)> {
    match item {
        Item::Struct(item) => Some((&item.ident, Some(&item.vis))),
        Item::Enum(item) => Some((&item.ident, Some(&item.vis))),
        Item::Union(item) => Some((&item.ident, Some(&item.vis))),
        Item::Trait(item) => Some((&item.ident, Some(&item.vis))),
        Item::Type(item) => Some((&item.ident, Some(&item.vis))),
        Item::Fn(item) => Some((&item.sig.ident, None)),
        Item::Const(item) => Some((&item.ident, None)),
        Item::Static(item) => Some((&item.ident, None)),
        Item::Macro(item) => Some((item.ident.as_ref()?, None)),
        _ => None,
    }
}

fn item_attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether it is compiled for tests only.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<Ident>()
                    .is_ok_and(|condition| condition == "test")
    })
}

/// The value of `#[path = "…"]`.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes
        .iter()
        .find_map(|attribute| match &attribute.meta {
            Meta::NameValue(meta) if meta.path.is_ident("path") => match &meta.value {
                Expr::Lit(literal) => match &literal.lit {
                    Lit::Str(path) => Some(path.value()),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        })
}

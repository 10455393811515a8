//! Dotted keys: `model.openai.model` is `model` in the table `[model.openai]`.

use toml::{Table, Value};

/// The key of `name` in the table at `path`, which is empty for the outermost.
pub(super) fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// The value of a key.
pub(super) fn find<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => find(table.get(section)?.as_table()?, rest),
    }
}

/// The value of a key, to be replaced.
pub(super) fn find_mut<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Value> {
    match key.split_once('.') {
        None => table.get_mut(key),
        Some((section, rest)) => find_mut(table.get_mut(section)?.as_table_mut()?, rest),
    }
}

/// The names in a table, for messages.
pub(super) fn list(table: &Table) -> String {
    table.keys().cloned().collect::<Vec<_>>().join(", ")
}

/// The keys of all values, in order.
pub(super) fn list_all(table: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    collect_keys(table, "", &mut keys);
    keys
}

fn collect_keys(table: &Table, path: &str, keys: &mut Vec<String>) {
    for (name, value) in table {
        let key = join(path, name);
        match value {
            Value::Table(inner) => collect_keys(inner, &key, keys),
            _ => keys.push(key),
        }
    }
}

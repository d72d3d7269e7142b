//! The differences between two states, field by field.

use serde_json::Value;

/// A field that differs.
#[derive(Debug, PartialEq)]
pub(super) struct Change<'a> {
    /// The path of the field, such as `items.3.quantity`. Empty for the value as a whole.
    pub(super) path: String,
    pub(super) before: Option<&'a Value>,
    pub(super) after: Option<&'a Value>,
}

/// Returns the fields that differ, in the order of their paths. Objects and arrays are compared by their elements.
pub(super) fn changes<'a>(before: Option<&'a Value>, after: Option<&'a Value>) -> Vec<Change<'a>> {
    let mut found = Vec::new();
    compare(String::new(), before, after, &mut found);
    found
}

fn compare<'a>(
    path: String,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
    found: &mut Vec<Change<'a>>,
) {
    if before == after {
        return;
    }
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|name| !old.contains_key(*name));
            for name in old.keys().chain(added) {
                compare(below(name), old.get(name), new.get(name), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                compare(below(&index.to_string()), old.get(index), new.get(index), found);
            }
        }
        _ => found.push(Change { path, before, after }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_fields_that_differ_are_listed() {
        let before = json!({ "status": "open", "items": [{ "id": 1, "count": 2 }, { "id": 2, "count": 1 }], "owner": "ann" });
        let after =
            json!({ "status": "paid", "items": [{ "id": 1, "count": 5 }], "owner": "ann", "paid_at": 7 });
        let found: Vec<_> = changes(Some(&before), Some(&after))
            .into_iter()
            .map(|change| (change.path, change.before.cloned(), change.after.cloned()))
            .collect();
        let mut expected = vec![
            ("status".to_owned(), Some(json!("open")), Some(json!("paid"))),
            ("items.0.count".to_owned(), Some(json!(2)), Some(json!(5))),
            ("items.1".to_owned(), Some(json!({ "id": 2, "count": 1 })), None),
            ("paid_at".to_owned(), None, Some(json!(7))),
        ];
        expected.sort_by_key(|(path, ..)| {
            ["items.0.count", "items.1", "status", "paid_at"].iter().position(|known| known == path)
        });
        let mut found = found;
        found.sort_by_key(|(path, ..)| {
            ["items.0.count", "items.1", "status", "paid_at"].iter().position(|known| known == path)
        });
        assert_eq!(found, expected);
        assert_eq!(changes(Some(&after), Some(&after)), []);
        assert_eq!(changes(None, Some(&json!(1))).len(), 1, "the first event");
    }
}

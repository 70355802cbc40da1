//! Texts in a document, by the names of the members that hold them.

use super::document::MAX_DEPTH;
use bson::{RawBsonRef, RawDocument};

/// A document's `_id` as people read it, where it is an object id, a text or a number.
pub fn id_of(document: &[u8]) -> Option<String> {
    match RawDocument::from_bytes(document).ok()?.get("_id").ok()?? {
        RawBsonRef::ObjectId(id) => Some(id.to_hex()),
        RawBsonRef::String(text) => Some(text.to_owned()),
        RawBsonRef::Int32(number) => Some(number.to_string()),
        RawBsonRef::Int64(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Give each text to `found` that a member of one of these names holds, at any depth below the document at `path`, with the
/// member's name. What cannot be read is passed over: whoever stores documents has validated them.
pub fn texts_below(
    document: &[u8],
    path: &[&str],
    members: &[&str],
    found: &mut dyn FnMut(&str, &str),
) {
    let mut inner = RawDocument::from_bytes(document);
    for name in path {
        inner = inner.and_then(|outer| outer.get_document(name));
    }
    if let Ok(inner) = inner {
        below(inner, members, MAX_DEPTH, found);
    }
}

fn below(
    document: &RawDocument,
    members: &[&str],
    depth: usize,
    found: &mut dyn FnMut(&str, &str),
) {
    if depth == 0 {
        return;
    }
    for (name, value) in document.iter().flatten() {
        match value {
            RawBsonRef::String(text) if members.contains(&name.as_ref()) => {
                found(name.as_ref(), text);
            }
            RawBsonRef::Document(inner) => below(inner, members, depth - 1, found),
            RawBsonRef::Array(inner) => {
                if let Ok(inner) = RawDocument::from_bytes(inner.as_bytes()) {
                    below(inner, members, depth - 1, found);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{doc, oid::ObjectId};

    fn found(document: &bson::Document, path: &[&str]) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        let bytes = document.to_vec().unwrap();
        texts_below(&bytes, path, &["password", "value"], &mut |name, text| {
            texts.push((name.to_owned(), text.to_owned()));
        });
        texts
    }

    #[test]
    fn texts_are_found_by_the_names_of_their_members_below_the_path_only() {
        let document = doc! {
            "password": "above",
            "a": { "b": {
                "password": "one", "other": "none", "value": 3,
                "list": [{ "value": "two" }, "value"],
                "deep": { "password": { "value": "three" } },
            } },
        };
        let expected = [("password", "one"), ("value", "two"), ("value", "three")];
        let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(found(&document, &["a", "b"]), expected);
        assert_eq!(found(&document, &["a", "c"]), []);
        assert_eq!(found(&document, &["password"]), []);
        let mut nested = doc! { "value": "the end" };
        for _ in 0..MAX_DEPTH {
            nested = doc! { "a": nested };
        }
        assert_eq!(found(&nested, &[]), []);
        texts_below(b"\xff\xff", &[], &["a"], &mut |_, _| panic!("nothing is there"));
    }

    #[test]
    fn ids_of_the_usual_kinds_are_told() {
        let id = |value: bson::Bson| id_of(&doc! { "_id": value }.to_vec().unwrap());
        let object = ObjectId::from_bytes([0xab; 12]);
        assert_eq!(id(object.into()), Some("ab".repeat(12)));
        assert_eq!(id("x".into()), Some("x".to_owned()));
        assert_eq!(id(7_i64.into()), Some("7".to_owned()));
        assert_eq!(id(bson::Bson::Null), None);
        assert_eq!(id_of(b"\x05\0\0\0\0"), None);
    }
}

//! The archive's own documents, between those that were dumped: their elements by name.

use super::error::{ArchiveError, Place};
use crate::component::mongodb::document::{DocumentReader, Value, elements};
use std::io::Read;

/// More elements than any such document has.
const MAX_ELEMENTS: usize = 32;

/// The elements of one document, none of which comes twice. Those that nobody asks for may be anything: newer programs
/// may say more.
pub(super) struct Fields<'a>(Vec<(&'a str, Value<'a>)>);

impl<'a> Fields<'a> {
    /// The next document's, or `None` for a terminator.
    pub(super) fn next(
        reader: &'a mut DocumentReader<impl Read>,
        place: &Place,
    ) -> Result<Option<Self>, ArchiveError> {
        let offset = reader.position();
        let document = reader.document_or_terminator();
        let document =
            document.map_err(|source| ArchiveError::Documents { place: place.clone(), source })?;
        let fields = document.map(Self::parse).transpose();
        fields.map_err(|reason| ArchiveError::Damaged { place: place.clone(), offset, reason })
    }

    fn parse(document: &'a [u8]) -> Result<Self, String> {
        let fields: Vec<_> = elements(document).take(MAX_ELEMENTS + 1).collect();
        if fields.len() > MAX_ELEMENTS {
            return Err(format!(
                "a document of the archive's own has more than {MAX_ELEMENTS} elements"
            ));
        }
        for (index, (name, _)) in fields.iter().enumerate() {
            if fields[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(format!("'{}' comes twice", name.escape_default()));
            }
        }
        Ok(Self(fields))
    }

    /// Whether there is such an element.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<&'a str, String> {
        self.get(name, "text", |value| match value {
            Value::Text(text) => Some(text),
            _ => None,
        })
    }

    /// A truth value.
    pub(super) fn bool(&self, name: &str) -> Result<bool, String> {
        self.get(name, "truth value", |value| match value {
            Value::Bool(value) => Some(value),
            _ => None,
        })
    }

    /// A whole number.
    pub(super) fn int32(&self, name: &str) -> Result<i32, String> {
        self.get(name, "number of 32 bits", |value| match value {
            Value::Int32(value) => Some(value),
            _ => None,
        })
    }

    /// A whole number.
    pub(super) fn int64(&self, name: &str) -> Result<i64, String> {
        self.get(name, "number of 64 bits", |value| match value {
            Value::Int64(value) => Some(value),
            _ => None,
        })
    }

    fn get<T>(
        &self,
        name: &str,
        what: &str,
        pick: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<T, String> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found
            .and_then(|(_, value)| pick(*value))
            .ok_or_else(|| format!("'{name}' is no {what}, or not there"))
    }
}

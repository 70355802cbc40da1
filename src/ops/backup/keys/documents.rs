//! The same proof where ciphertext stands in documents, as Appsmith's does.

use crate::component::mongodb::texts::{id_of, texts_below};
use crate::platform::keyfit::appsmith::{FIELDS, FitProof, Key};
use crate::platform::keyfit::{FitPlace, FitReport};
use std::sync::{Mutex, PoisonError};

/// Tries what is encrypted in documents, from several threads.
pub(in crate::ops) struct DocumentProof(Mutex<FitProof>);

impl DocumentProof {
    /// With the password and the salt that an instance has.
    pub(in crate::ops) fn new(password: &str, salt: &str) -> Self {
        Self(Mutex::new(FitProof::new(Key::derive(password, salt))))
    }

    /// A document of a collection has come by: its bytes, validated.
    pub(in crate::ops) fn see(&self, collection: &str, document: &[u8]) {
        for field in FIELDS.iter().filter(|field| field.collection == collection) {
            let mut id = None;
            texts_below(document, field.document, field.members, &mut |member, text| {
                let id = id.get_or_insert_with(|| id_of(document));
                let column = format!("{}.{member}", field.document.join("."));
                let row = id.as_deref().map(str::as_bytes);
                let place = FitPlace::new(collection, &column, row);
                self.0.lock().unwrap_or_else(PoisonError::into_inner).add(place, text);
            });
        }
    }

    /// All was seen.
    pub(in crate::ops) fn finish(self) -> FitReport {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::mongodb::archive::{Contents, Namespace, Prelude, Sink, split};
    use crate::model::manifest::KeyFit;
    use std::io::{self, Write};

    const ARCHIVE: &[u8] = include_bytes!("../../../../tests/fixtures/appsmith/appsmith.archive");

    /// Shows all documents to a proof.
    struct Shown<'a>(&'a DocumentProof);
    struct Collection<'a>(&'a DocumentProof, String);

    impl Write for Collection<'_> {
        fn write(&mut self, document: &[u8]) -> io::Result<usize> {
            self.0.see(&self.1, document);
            Ok(document.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> Sink for Shown<'a> {
        type Output = Collection<'a>;

        fn begin(&mut self, _: &Prelude) -> io::Result<()> {
            Ok(())
        }

        fn open(&mut self, namespace: &Namespace) -> io::Result<Collection<'a>> {
            Ok(Collection(self.0, namespace.collection().to_owned()))
        }

        fn end(&mut self, _: &Namespace, _: Contents, _: Option<Collection<'a>>) -> io::Result<()> {
            Ok(())
        }
    }

    fn report(password: &str, salt: &str) -> FitReport {
        let proof = DocumentProof::new(password, salt);
        split(ARCHIVE, &mut Shown(&proof)).unwrap();
        proof.finish()
    }

    #[test]
    fn all_ciphertext_of_a_database_is_tried() {
        let right = report("fixture-encryption-password", "fixture-encryption-salt");
        assert_eq!((right.verdict(), right.fit), (KeyFit::Fit, 16), "{:?}", right.warnings());
        assert_eq!(right.warnings(), [""; 0]);
        let wrong = report("fixture-encryption-password", "another");
        assert_eq!((wrong.verdict(), wrong.unfit.count), (KeyFit::Unfit, 16));
        let place = wrong.unfit.places[0].to_string();
        let (field, row) = place.split_once(" of row ").unwrap();
        assert!(field.ends_with(".password") || field.ends_with(".privateKey"), "{place}");
        assert_eq!(row.len(), 24, "{place}");
    }
}

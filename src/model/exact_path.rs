//! Paths in what programs read: exact whatever their bytes are, where JSON knows text only.

use crate::model::node::display_path;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A path of any bytes as one or two members of a JSON object, into which it is flattened. UTF-8 is one member, the exact
/// text: `"path": "a\nb"`. Other bytes are two: the text escaped for people, and the exact bytes in standard base64:
/// `"path": "a\\xff", "path_base64": "Yf8="`. Shown to people it is escaped always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactPath {
    member: &'static str,
    bytes: Vec<u8>,
}

impl ExactPath {
    /// A path that is called `member`.
    pub fn new(member: &'static str, path: impl AsRef<OsStr>) -> Self {
        Self { member, bytes: path.as_ref().as_bytes().to_vec() }
    }

    /// The same of bytes.
    pub fn of_bytes(member: &'static str, path: &[u8]) -> Self {
        Self::new(member, OsStr::from_bytes(path))
    }

    /// The path itself.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.bytes))
    }
}

impl fmt::Display for ExactPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&display_path(&self.bytes))
    }
}

impl Serialize for ExactPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        if let Ok(text) = std::str::from_utf8(&self.bytes) {
            object.serialize_entry(self.member, text)?;
        } else {
            object.serialize_entry(self.member, &self.to_string())?;
            let member = format!("{}_base64", self.member);
            object.serialize_entry(&member, &STANDARD.encode(&self.bytes))?;
        }
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_exact_bytes_and_people_see_escapes() {
        #[derive(serde::Serialize)]
        struct Document {
            #[serde(flatten)]
            path: ExactPath,
            #[serde(flatten)]
            target: Option<ExactPath>,
        }
        let of = |path: &[u8], target: Option<&[u8]>| {
            let path = ExactPath::of_bytes("path", path);
            let shown = path.to_string();
            let target = target.map(|target| ExactPath::of_bytes("target", target));
            (serde_json::to_string(&Document { path, target }).unwrap(), shown)
        };
        let (json, shown) = of(b"a\n\"\x1b\\b", None);
        assert_eq!(json, r#"{"path":"a\n\"\u001b\\b"}"#);
        assert_eq!(shown, r#"a\n"\u{1b}\\b"#);
        let (json, shown) = of(b"a\xff", Some(b"\xfe"));
        let target = r#""target":"\\xfe","target_base64":"/g==""#;
        assert_eq!(json, format!(r#"{{"path":"a\\xff","path_base64":"Yf8=",{target}}}"#));
        assert_eq!(shown, r"a\xff");
    }
}

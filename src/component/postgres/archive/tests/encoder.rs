//! Writes small archives of any known version, also wrong ones.

/// An archive to write.
pub struct Encoder {
    pub minor: u8,
    pub compression: u8,
}

/// An entry of its table of contents, and the data that follows for it.
#[derive(Clone)]
pub struct Entry {
    pub id: u32,
    pub kind: String,
    pub schema: String,
    pub name: String,
    pub needs: Vec<u32>,
    pub copy: String,
    pub has_data: bool,
    /// What would be said of it otherwise: 3 with data, 2 without.
    pub section: Option<i64>,
    pub offset: Option<u64>,
    /// The block's bytes from its kind on, without its number.
    pub block: Option<(u8, Vec<u8>)>,
    /// The number that the block says.
    pub block_id: u32,
}

impl Entry {
    pub fn new(id: u32, kind: &str, schema: &str, name: &str) -> Self {
        Self {
            id,
            kind: kind.to_owned(),
            schema: schema.to_owned(),
            name: name.to_owned(),
            needs: Vec::new(),
            copy: String::new(),
            has_data: false,
            section: None,
            offset: None,
            block: None,
            block_id: id,
        }
    }

    pub fn table(id: u32, schema: &str, name: &str, copy: &str) -> Self {
        let copy = copy.to_owned();
        Self { copy, has_data: true, ..Self::new(id, "TABLE DATA", schema, name) }
    }

    pub fn large_objects(id: u32, objects: &[(u32, &[&[u8]])]) -> Self {
        let mut bytes = Vec::new();
        for (oid, chunks) in objects {
            // As a number with a sign, which wraps.
            push_int(&mut bytes, i64::from(oid.cast_signed()));
            push_chunks(&mut bytes, chunks);
        }
        push_int(&mut bytes, 0);
        Self { has_data: true, block: Some((3, bytes)), ..Self::new(id, "BLOBS", "", "BLOBS") }
    }

    pub fn needs(mut self, needs: &[u32]) -> Self {
        self.needs = needs.to_vec();
        self
    }

    pub fn chunks(mut self, chunks: &[&[u8]]) -> Self {
        let mut bytes = Vec::new();
        push_chunks(&mut bytes, chunks);
        self.block = Some((1, bytes));
        self
    }
}

impl Encoder {
    pub fn new(minor: u8) -> Self {
        Self { minor, compression: 0 }
    }

    /// Up to the number of entries.
    pub fn head(&self, entries: usize) -> Vec<u8> {
        let mut out = b"PGDMP\x01".to_vec();
        out.extend([self.minor, 0, 4, 8, 1]);
        if self.minor >= 15 {
            out.push(self.compression);
        } else {
            push_int(&mut out, i64::from(self.compression));
        }
        for value in [59, 58, 23, 31, 11, 126, -1] {
            push_int(&mut out, value);
        }
        for text in ["database", "99.1", "99.2"] {
            push_text(&mut out, Some(text));
        }
        push_int(&mut out, length(entries));
        out
    }

    pub fn archive(&self, entries: &[Entry]) -> Vec<u8> {
        let mut out = self.head(entries.len());
        for entry in entries {
            self.push_entry(&mut out, entry);
        }
        for entry in entries {
            if let Some((kind, bytes)) = &entry.block {
                out.push(*kind);
                push_int(&mut out, i64::from(entry.block_id));
                out.extend_from_slice(bytes);
            }
        }
        out
    }

    fn push_entry(&self, out: &mut Vec<u8>, entry: &Entry) {
        push_int(out, i64::from(entry.id));
        push_int(out, i64::from(entry.has_data));
        for text in ["1259", "16384", &entry.name, &entry.kind] {
            push_text(out, Some(text));
        }
        push_int(out, entry.section.unwrap_or(if entry.has_data { 3 } else { 2 }));
        push_text(out, Some("CREATE …"));
        push_text(out, Some("DROP …"));
        push_text(out, Some(&entry.copy).filter(|copy| !copy.is_empty()).map(String::as_str));
        push_text(out, Some(&entry.schema));
        push_text(out, None);
        if self.minor >= 14 {
            push_text(out, Some("heap"));
        }
        if self.minor >= 16 {
            push_int(out, i64::from(b'r'));
        }
        push_text(out, Some("owner"));
        push_text(out, Some("false"));
        for id in &entry.needs {
            push_text(out, Some(&id.to_string()));
        }
        push_text(out, None);
        out.push(match (entry.has_data, entry.offset) {
            (false, _) => 3,
            (true, None) => 1,
            (true, Some(_)) => 2,
        });
        out.extend(entry.offset.unwrap_or(0).to_le_bytes());
    }
}

/// A value as COPY writes it.
pub fn field(value: Option<&String>) -> String {
    value.map_or_else(
        || "\\N".to_owned(),
        |text| text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n"),
    )
}

fn length(length: usize) -> i64 {
    length.try_into().unwrap()
}

fn push_int(out: &mut Vec<u8>, value: i64) {
    out.push(u8::from(value < 0));
    out.extend(u32::try_from(value.unsigned_abs()).unwrap().to_le_bytes());
}

fn push_text(out: &mut Vec<u8>, text: Option<&str>) {
    push_int(out, text.map_or(-1, |text| length(text.len())));
    out.extend_from_slice(text.unwrap_or_default().as_bytes());
}

fn push_chunks(out: &mut Vec<u8>, chunks: &[&[u8]]) {
    for chunk in chunks {
        push_int(out, length(chunk.len()));
        out.extend_from_slice(chunk);
    }
    push_int(out, 0);
}

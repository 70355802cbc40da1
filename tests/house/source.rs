//! A source file as the rules see it: enough of Rust's syntax to leave out comments and literals, and to find paths.
#![allow(clippy::unwrap_used)]

/// One file below `src/`.
pub struct Source {
    /// Relative to `src/`, with `/`.
    pub path: String,
    /// As it is.
    pub text: String,
    /// The whole file is a test: its parent declares it under `#[cfg(test)]`.
    pub is_test: bool,
    /// The text without comments and without what is in literals.
    code: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), is_test: false, code: code_only(text) }
    }

    /// The module of the crate's root that the file belongs to; `lib` and `main` for the roots themselves.
    pub fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// The code without what is under `#[cfg(test)]`.
    pub fn product_code(&self) -> String {
        if self.is_test { String::new() } else { split_tests(&self.code).0 }
    }

    /// Paths of the files that this one declares as `#[cfg(test)] mod name;`.
    pub fn test_files(&self) -> Vec<String> {
        let directory = match self.path.as_str() {
            "lib.rs" | "main.rs" => String::new(),
            path => format!("{}/", path.trim_end_matches(".rs")),
        };
        let declared = |item: &String| {
            // Other attributes may stand between.
            let (_, name) = item.trim().strip_suffix(';')?.rsplit_once("mod ")?;
            Some(format!("{directory}{name}.rs"))
        };
        split_tests(&self.code).1.iter().filter_map(declared).collect()
    }

    /// Whether this is `file`, or a file of a module in it.
    pub fn is_or_is_below(&self, file: &str) -> bool {
        let below = self.path.strip_prefix(file.trim_end_matches(".rs"));
        below.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    }

    /// Those of `words` that are in the code and not in tests.
    pub fn words_in_code<'a>(&self, words: &[&'a str]) -> Vec<&'a str> {
        let code = self.product_code();
        words.iter().copied().filter(|word| contains_word(&code, word)).collect()
    }

    /// Whether a path of the code begins with the external crate `library`.
    pub fn uses_library(&self, library: &str) -> bool {
        word_starts(&self.code, library).any(|start| {
            let before = self.code[..start].trim_end();
            let after = self.code[start + library.len()..].trim_start();
            let imported =
                before.ends_with("use") && (after.starts_with(';') || after.starts_with("as "));
            let inner =
                before.ends_with("::") && !before.trim_end_matches(':').ends_with(['{', ' ', '(']);
            !inner && (after.starts_with("::") || imported)
        })
    }

    /// First segments of all paths from the crate's root, `use` lines and paths in the code alike.
    pub fn used_modules(&self) -> Vec<String> {
        let mut found = Vec::new();
        for root in ["crate", "belay"] {
            for start in word_starts(&self.code, root) {
                if let Some(rest) = self.code[start + root.len()..].trim_start().strip_prefix("::")
                {
                    first_segments(rest, &mut found);
                }
            }
        }
        // As many `super` as the file is deep end at the root; a module in the file adds one.
        let depth = self.path.split('/').count();
        for start in word_starts(&self.code, "super") {
            let mut rest = &self.code[start..];
            let mut count = 0;
            while let Some(after) = rest.trim_start().strip_prefix("super").map(str::trim_start) {
                let Some(after) = after.strip_prefix("::") else { break };
                rest = after;
                count += 1;
            }
            if count >= depth {
                first_segments(rest, &mut found);
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

/// Whether `word` is in `text` as a word of its own.
pub fn contains_word(text: &str, word: &str) -> bool {
    word_starts(text, word).next().is_some()
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn word_starts<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(start, _)| start).filter(move |start| {
        let bytes = text.as_bytes();
        let end = start + word.len();
        let starts = *start == 0 || !is_word_byte(bytes[start - 1]);
        let ends = word.ends_with('!') || end == bytes.len() || !is_word_byte(bytes[end]);
        starts && ends
    })
}

/// The identifier at the start of `path`, or of each path of the group in braces there.
fn first_segments(path: &str, found: &mut Vec<String>) {
    let identifier = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let path = path.trim_start();
    let Some(group) = path.strip_prefix('{') else {
        found.push(identifier(path));
        return;
    };
    found.push(identifier(group));
    let mut depth = 1;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => found.push(identifier(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

/// The code outside `#[cfg(test)]`, and each item under it.
fn split_tests(code: &str) -> (String, Vec<String>) {
    const MARK: &str = "#[cfg(test)]";
    let mut product = String::new();
    let mut tests = Vec::new();
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        product.push_str(&rest[..start]);
        let item = &rest[start + MARK.len()..];
        let mut depth = 0;
        let mut end = item.len();
        for (at, character) in item.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(character, '}' | ';') {
                end = at + 1;
                break;
            }
        }
        tests.push(item[..end].to_owned());
        rest = &item[end..];
    }
    product.push_str(rest);
    (product, tests)
}

/// The text with comments and the insides of literals left out.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest, &code).or_else(|| char_literal(rest)) {
            code.push_str("\"\"");
            length
        } else {
            code.push(character);
            character.len_utf8()
        };
        rest = &rest[length..];
    }
    code
}

/// The length of the comment that `text` begins with; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of the string literal that `text` begins with, if any; `before` tells an `r` of a word from a raw string's.
fn string(text: &str, before: &str) -> Option<usize> {
    let inside_word = before.bytes().last().is_some_and(is_word_byte);
    if !inside_word && let Some(raw) = text.strip_prefix('r').or_else(|| text.strip_prefix("br")) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if let Some(body) = raw[hashes..].strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let length = body.find(&end).map_or(body.len(), |at| at + end.len());
            return Some(text.len() - body.len() + length);
        }
    }
    let body = text.strip_prefix('"')?;
    let mut escaped = false;
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 2),
            _ => {}
        }
    }
    Some(text.len())
}

/// The length of the character literal that `text` begins with, if it is one and not a lifetime.
fn char_literal(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    if let Some(escape) = body.strip_prefix('\\') {
        // The escaped character itself may be a quote.
        let skip = escape.chars().next()?.len_utf8();
        return escape[skip..].find('\'').map(|at| 2 + skip + at + 1);
    }
    let length = body.chars().next()?.len_utf8();
    body[length..].starts_with('\'').then_some(length + 2)
}

//! As much of Markdown as the documents use: fenced blocks with their marks, links, headings.

use std::collections::BTreeSet;

/// What a comment before a block says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    None,
    /// `<!-- test: NAME -->`: a part of the script of this name.
    Test(String),
    /// `<!-- not run: REASON -->`.
    NotRun(String),
    /// `<!-- fragment -->`: a part of a configuration.
    Fragment,
}

/// A fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The line of its fence, from 1.
    pub line: usize,
    /// What stands behind the fence; empty where nothing does.
    pub language: String,
    /// What the comment before it says.
    pub mark: Mark,
    /// Its lines, without the fence's indentation.
    pub content: String,
}

fn mark_of(line: &str) -> Mark {
    let comment = line.trim().strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->"));
    let comment = comment.map_or("", str::trim);
    if comment == "fragment" {
        return Mark::Fragment;
    }
    match comment.split_once(':') {
        Some(("test", name)) => Mark::Test(name.trim().to_owned()),
        Some(("not run", reason)) => Mark::NotRun(reason.trim().to_owned()),
        _ => Mark::None,
    }
}

/// The fenced blocks of a document. A mark stands in the line before the fence.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut before = "";
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            before = line;
            continue;
        };
        let indentation = line.len() - line.trim_start().len();
        let mut content = String::new();
        let mut is_closed = false;
        for (_, line) in lines.by_ref() {
            is_closed = line.trim() == "```";
            if is_closed {
                break;
            }
            content.push_str(line.get(indentation..).unwrap_or_else(|| line.trim_start()));
            content.push('\n');
        }
        assert!(is_closed, "the block of line {} has no end", number + 1);
        let (language, mark) = (language.trim().to_owned(), mark_of(before));
        found.push(Block { line: number + 1, language, mark, content });
        before = "";
    }
    found
}

/// The lines outside of fenced blocks, with their numbers from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_inside = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_inside ^= is_fence;
        (!is_inside && !is_fence).then_some((number + 1, line))
    })
}

/// The targets of `[text](target)`, with their lines.
pub fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // Code is no link: every second part between backticks.
        let outside: Vec<&str> = line.split('`').step_by(2).collect();
        let outside = outside.join("`");
        for part in outside.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// What the headings of a document are called in links: lower case, spaces as hyphens, and nothing but letters, digits,
/// hyphens and underscores.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then(|| title.strip_prefix(' ')).flatten()
    });
    let anchor = |title: &str| -> String {
        let characters = title.trim().chars().filter_map(|character| match character {
            ' ' => Some('-'),
            '-' | '_' => Some(character),
            _ => character.is_alphanumeric().then_some(character),
        });
        characters.flat_map(char::to_lowercase).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn blocks_are_found_with_their_marks() {
    let text = "# A\n\n<!-- test: one -->\n```sh\necho 1\n```\n\n1. x\n\n   <!-- not run: because -->\n   ```sh\n   if x; then\n     y\n   fi\n   ```\n```toml\na = 1\n```\n";
    let found = blocks(text);
    let shown: Vec<_> =
        found.iter().map(|it| (it.line, &*it.language, &it.mark, &*it.content)).collect();
    assert_eq!(
        shown,
        [
            (4, "sh", &Mark::Test("one".to_owned()), "echo 1\n"),
            (11, "sh", &Mark::NotRun("because".to_owned()), "if x; then\n  y\nfi\n"),
            (16, "toml", &Mark::None, "a = 1\n"),
        ]
    );
}

#[test]
fn links_and_headings_are_found_outside_of_code() {
    let text = "# First: `a` page\n\n[x](docs/A.md#b) and [y](#c), not `[z](no)`.\n```text\n# no heading [z](no)\n```\n## It is 3 a.m.\n";
    assert_eq!(links(text), [(3, "docs/A.md#b".to_owned()), (3, "#c".to_owned())]);
    let expected = ["first-a-page", "it-is-3-am"].map(str::to_owned);
    assert_eq!(anchors(text), BTreeSet::from(expected));
}

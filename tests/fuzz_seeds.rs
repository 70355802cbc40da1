//! The fuzz targets' short form: every seed in `tests/fuzz/seeds`, and mutations of them that are the same each time,
//! go through the functions that libFuzzer feeds (`tests/fuzz/run`).
#![allow(clippy::unwrap_used)]

#[path = "fuzz/targets.rs"]
mod targets;

mod support;

use belay::repository::format::compress::{Decompressor, MAX_TREE_BYTES};
use belay::repository::format::crypto::MasterKey;
use belay::repository::format::key::KeyFile;
use belay::repository::format::pack::{BlobKind, decode_header, header_span};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Random, files_in};
use targets::{PASSWORD, TARGETS};

/// Mutations of each seed.
const MUTATIONS: u64 = 2000;
/// What the parsers look for, or should trip over.
const WORDS: [&str; 18] = [
    "0",
    "-1",
    "1e9",
    "255",
    "65536",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "\\u0000",
    "\\ud800",
    "\\\\xff",
    "..",
    "9999-12-31T23:59:59Z",
];

fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// A target's seeds by name.
fn seeds_of(target: &str) -> BTreeMap<String, Vec<u8>> {
    let directory = fuzz_directory().join("seeds").join(target);
    let names = files_in(&directory);
    names.into_iter().map(|name| (name.clone(), fs::read(directory.join(name)).unwrap())).collect()
}

#[test]
fn every_target_has_a_program_and_seeds() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(files_in(&fuzz_directory().join("seeds")), names);
    let programs = names.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(files_in(&fuzz_directory().join("src/bin")), programs);
}

#[test]
fn good_seeds_are_accepted_and_bad_ones_refused() {
    for (name, target) in TARGETS {
        let seeds = seeds_of(name);
        assert!(seeds.keys().any(|seed| !seed.starts_with("bad-")), "{name} has no good seed");
        for (seed, bytes) in seeds {
            assert_eq!(target(&bytes), !seed.starts_with("bad-"), "seeds/{name}/{seed}");
        }
    }
}

#[test]
fn no_mutation_of_a_seed_breaks_a_parser() {
    let mut accepted = 0;
    for (name, target) in TARGETS {
        let seeds: Vec<Vec<u8>> = seeds_of(name).into_values().collect();
        for (index, seed) in seeds.iter().enumerate() {
            let mut random = Random::new(index as u64);
            for _ in 0..MUTATIONS {
                let mut bytes = seed.clone();
                for _ in 0..=random.below(4) {
                    mutate(&mut bytes, &seeds, &mut random);
                }
                accepted += u64::from(target(&bytes));
            }
        }
    }
    // If nearly all were refused at the first look, this would test little.
    assert!(accepted > MUTATIONS, "only {accepted} mutations were accepted");
}

/// Change `bytes` in one place.
fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let mut below = |end: usize| random.below(end.max(1) as u64) as usize;
    let at = below(bytes.len());
    let end = at + below((bytes.len() - at).min(64));
    match below(8) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
        1 if !bytes.is_empty() => bytes[at] = below(256) as u8,
        2 => drop(bytes.drain(at..end)),
        3 => {
            let copy = bytes[at..end].to_vec();
            let to = below(bytes.len());
            bytes.splice(to..to, copy);
        }
        4 => bytes.truncate(at),
        5 => {
            let other = &seeds[below(seeds.len())];
            let from = below(other.len());
            bytes.splice(at.., other[from..].iter().copied());
        }
        6 => drop(bytes.splice(at..end, WORDS[below(WORDS.len())].bytes())),
        // A whole number or another run of letters and digits, as it stands.
        _ => {
            let is_word = |byte: &u8| byte.is_ascii_alphanumeric();
            let start = bytes[..at].iter().rposition(|byte| !is_word(byte)).map_or(0, |at| at + 1);
            let length = bytes[start..].iter().take_while(|byte| is_word(byte)).count();
            bytes.splice(start..start + length, WORDS[below(WORDS.len())].bytes());
        }
    }
}

#[test]
fn the_cheap_key_opens() {
    let json = fs::read(fuzz_directory().join("seeds/key/cheap")).unwrap();
    let file: KeyFile = serde_json::from_slice(&json).unwrap();
    assert!(file.open(PASSWORD).unwrap().is_some());
    assert!(file.open(b"another").unwrap().is_none());
}

/// Seeds called `restic-…` are what restic wrote, taken from the fixture. `BELAY_WRITE_SEEDS=1` writes them.
#[test]
fn seeds_of_restic_are_what_the_fixture_holds() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = fuzz_directory().with_file_name("fixtures").join("restic-repo.tar");
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(fixture).arg("-C").arg(directory.path());
    assert!(unpack.status().unwrap().success());
    let seeds = Fixture::open(&directory.path().join("restic-repo")).seeds();
    if std::env::var_os("BELAY_WRITE_SEEDS").is_some() {
        for ((target, name), bytes) in &seeds {
            let folder = fuzz_directory().join("seeds").join(target);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
    let mut found = BTreeMap::new();
    for (target, _) in TARGETS {
        for (name, bytes) in seeds_of(target) {
            if name.starts_with("restic-") {
                found.insert((*target, name), bytes);
            }
        }
    }
    assert!(found == seeds, "{:?} differ from {:?}", found.keys(), seeds.keys());
}

/// The repository that restic wrote.
struct Fixture {
    directory: PathBuf,
    key_json: Vec<u8>,
    key: MasterKey,
}

type Seeds = BTreeMap<(&'static str, String), Vec<u8>>;

impl Fixture {
    fn open(directory: &Path) -> Self {
        let keys = directory.join("keys");
        let name = files_in(&keys).pop_first().unwrap();
        let key_json = fs::read(keys.join(name)).unwrap();
        let file: KeyFile = serde_json::from_slice(&key_json).unwrap();
        let key = file.open(b"fixture-repository-password").unwrap().unwrap();
        Self { directory: directory.to_owned(), key_json, key }
    }

    fn seeds(&self) -> Seeds {
        let mut seeds = Seeds::new();
        let config = fs::read(self.directory.join("config")).unwrap();
        seeds.insert(("config", "restic-config".into()), self.key.open(&config).unwrap());
        seeds.insert(("key", "restic-key".into()), self.key_json.clone());
        self.add_documents("index", "index", &mut seeds);
        self.add_documents("snapshots", "snapshot", &mut seeds);
        for folder in files_in(&self.directory.join("data")) {
            for name in files_in(&self.directory.join("data").join(&folder)) {
                let path = self.directory.join("data").join(&folder).join(&name);
                self.add_pack(&fs::read(path).unwrap(), &name[..8], &mut seeds);
            }
        }
        seeds
    }

    fn add_documents(&self, folder: &str, target: &'static str, seeds: &mut Seeds) {
        for name in files_in(&self.directory.join(folder)) {
            let sealed = fs::read(self.directory.join(folder).join(&name)).unwrap();
            let plaintext = self.key.open(&sealed).unwrap();
            let json = belay::repository::format::compress::decompress_document(
                &plaintext[1..],
                1024 * 1024,
            );
            let short = &name[..8];
            seeds.insert(("compressed", format!("restic-{short}")), plaintext[1..].to_vec());
            seeds.insert(("document", format!("restic-{short}")), plaintext);
            seeds.insert((target, format!("restic-{short}")), json.unwrap());
        }
    }

    /// The header of a pack, and the trees in it.
    fn add_pack(&self, pack: &[u8], name: &str, seeds: &mut Seeds) {
        let size = pack.len() as u64;
        let tail = pack.len() - header_span(*pack.last_chunk().unwrap(), size).unwrap();
        let header = self.key.open(&pack[tail..pack.len() - 4]).unwrap();
        seeds.insert(("pack", format!("restic-{name}")), header);
        for blob in decode_header(&self.key, &pack[tail..], size).unwrap() {
            let (BlobKind::Tree, Some(length)) = (blob.kind, blob.uncompressed_length) else {
                continue;
            };
            // Directories with several entries; the others add nothing.
            if length < 1000 {
                continue;
            }
            let (start, length) = (blob.offset as usize, length as usize);
            let compressed = self.key.open(&pack[start..start + blob.length as usize]).unwrap();
            let mut decompressor = Decompressor::new().unwrap();
            let tree = decompressor.decompress(&compressed, length, MAX_TREE_BYTES).unwrap();
            seeds.insert(("tree", format!("restic-{}", blob.id.short())), tree);
        }
    }
}

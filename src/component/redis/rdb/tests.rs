//! What a real server writes is walked to its end, and what is not whole is refused. The file in `tests/fixtures/redis` was
//! written by Redis 7.0.15.

use super::*;

/// Everything that was seen.
#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    keys: Vec<Key>,
    values: Vec<Vec<u8>>,
}

impl Visitor for Seen {
    fn bytes(&mut self, part: &[u8]) -> io::Result<()> {
        self.bytes.extend(part);
        Ok(())
    }

    fn wants(&mut self, key: &Key) -> bool {
        self.keys.push(key.clone());
        true
    }

    fn value(&mut self, _: &Key, value: &[u8]) -> io::Result<()> {
        self.values.push(value.to_vec());
        Ok(())
    }
}

fn walk_all(file: &[u8], tail: Tail) -> Result<(Summary, Seen), RdbError> {
    let mut seen = Seen::default();
    let summary = walk(file, tail, &mut seen)?;
    Ok((summary, seen))
}

/// A file around these objects, with its end and its sum.
fn file(version: u32, body: &[u8]) -> Vec<u8> {
    let mut file = format!("REDIS{version:04}").into_bytes();
    file.extend(body);
    file.push(0xff);
    let sum = crc::update(0, &file);
    file.extend(sum.to_le_bytes());
    file
}

const GOLDEN: &[u8] = include_bytes!("../../../../tests/fixtures/redis/kinds.rdb");

#[test]
fn what_a_server_wrote_is_walked_and_handed_on_as_it_was() {
    let (summary, seen) = walk_all(GOLDEN, Tail::None).unwrap();
    assert_eq!(summary.version, 10);
    assert_eq!(summary.databases, BTreeMap::from([(0, 18), (3, 1)]));
    assert!(seen.bytes == GOLDEN);
    let names: Vec<String> =
        seen.keys.iter().map(|key| String::from_utf8_lossy(&key.name).into_owned()).collect();
    // Packed, and a number.
    assert!(names.contains(&format!("spring:session:{}", "x".repeat(100))), "{names:?}");
    assert!(names.contains(&"12345".to_owned()), "{names:?}");
    let expires = seen.keys.iter().find(|key| key.name == b"expires").unwrap();
    assert_eq!(expires.expires_ms, Some(4_102_444_800_000));
    let mut kinds: Vec<u8> = seen.keys.iter().map(|key| key.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, [0, 2, 4, 5, 11, 16, 17, 18, 19]);
}

#[test]
fn a_mark_behind_is_left_out_where_one_may_be() {
    let marked = [GOLDEN, b"e682cd780d66239f527a46e95a16bf36ab14f143"].concat();
    let (_, seen) = walk_all(&marked, Tail::Marker).unwrap();
    assert!(seen.bytes == GOLDEN);
    assert!(walk_all(&marked, Tail::None).is_err());
    for more in [
        &b"x"[..],
        b"e682cd780d66239f527a46e95a16bf36ab14f14",
        b"E682cd780d66239f527a46e95a16bf36ab14f14z",
    ] {
        let error = walk_all(&[GOLDEN, more].concat(), Tail::Marker).err().unwrap();
        assert!(error.to_string().contains("something follows its end"), "{error}");
    }
}

#[test]
fn a_file_that_is_cut_or_has_a_wrong_bit_is_refused() {
    for length in (0..GOLDEN.len()).step_by(31) {
        assert!(walk_all(&GOLDEN[..length], Tail::Marker).is_err(), "{length}");
    }
    for at in (0..GOLDEN.len()).step_by(37) {
        let mut damaged = GOLDEN.to_vec();
        damaged[at] ^= 4;
        assert!(walk_all(&damaged, Tail::Marker).is_err(), "{at}");
    }
}

#[test]
fn a_sum_of_zero_is_none() {
    let mut file = file(11, b"\x00\x01a\x01b");
    let end = file.len() - 8;
    file[end..].fill(0);
    assert_eq!(walk_all(&file, Tail::None).unwrap().0.keys(), 1);
}

#[test]
fn every_kind_ends_where_it_ends() {
    let (id, time) = ([1; 16], [2; 8]);
    let group = |more: &[u8]| {
        let pending = [&[1][..], &id, &time, &[3], &[1, 1, b'c'], &time, more, &[1], &id].concat();
        [&[1, 1, b'g', 1, 2][..], &pending].concat()
    };
    let group_2 = |more: &[u8]| {
        let pending = [&[1][..], &id, &time, &[3], &[1, 1, b'c'], &time, more, &[1], &id].concat();
        [&[1, 1, b'g', 1, 2, 0x40, 200][..], &pending].concat()
    };
    let listpacks = b"\x01\x02id\x03lps";
    let kinds: Vec<(u8, Vec<u8>)> = vec![
        (0, b"\x03abc".to_vec()),
        (0, b"\xc0\x01".to_vec()),
        (0, b"\xc1\x01\x02".to_vec()),
        (0, b"\xc2\x01\x02\x03\x04".to_vec()),
        (0, b"\xc3\x04\x0a\x00a\x20\x00".to_vec()),
        (0, [&b"\x80\x00\x00\x00\x05"[..], b"abcde"].concat()),
        (0, [&b"\x81\x00\x00\x00\x00\x00\x00\x00\x05"[..], b"abcde"].concat()),
        (1, b"\x02\x01a\x01b".to_vec()),
        (2, b"\x02\x01a\x01b".to_vec()),
        (3, b"\x04\x01a\x031.5\x01b\xfd\x01c\xfe\x01d\xff".to_vec()),
        (4, b"\x01\x01a\x01b".to_vec()),
        (5, [&b"\x01\x01a"[..], &1.5_f64.to_le_bytes()].concat()),
        (
            7,
            [
                &b"\x81\x00\x00\x00\x00\x00\x00\x00\x09\x01\x05\x02\x06\x03"[..],
                &[0; 4],
                b"\x04",
                &[0; 8],
                b"\x05\x01x\x00",
            ]
            .concat(),
        ),
        (9, b"\x03zip".to_vec()),
        (10, b"\x03zip".to_vec()),
        (11, b"\x03int".to_vec()),
        (12, b"\x03zip".to_vec()),
        (13, b"\x03zip".to_vec()),
        (14, b"\x02\x03zip\x03zap".to_vec()),
        (15, [&listpacks[..], &[7, 1, 2], &group(&[])].concat()),
        (16, b"\x03lps".to_vec()),
        (17, b"\x03lps".to_vec()),
        (18, b"\x02\x01\x05plain\x02\x03lps".to_vec()),
        (19, [&listpacks[..], &[7, 1, 2, 0, 1, 0, 0, 9], &group_2(&[])].concat()),
        (20, b"\x03lps".to_vec()),
        (21, [&listpacks[..], &[7, 1, 2, 0, 1, 0, 0, 9], &group_2(&time)].concat()),
        (24, [&time[..], b"\x02\x00\x01a\x01b\x40\x80\x01c\x01d"].concat()),
        (25, [&time[..], b"\x03lps"].concat()),
    ];
    let between: [&[u8]; 8] = [
        b"\xfa\x03ver\x05x.y.z",
        b"\xfe\x02\xfb\x05\x01",
        b"\xf5\x04code",
        b"\xf7\x09\x02\x02\x02\x01\x05\x01x\x00",
        b"\xf4\x01\x02\x03",
        b"\xfc\x01\x00\x00\x00\x00\x00\x00\x00",
        b"\xfd\x01\x00\x00\x00\xf8\x05",
        b"\xf9\x05",
    ];
    for (kind, value) in &kinds {
        let mut body: Vec<u8> = between.concat();
        body.extend([&[*kind][..], b"\x01k", value, b"\x00\x03end\x01x"].concat());
        let (summary, seen) = walk_all(&file(12, &body), Tail::None)
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(summary.databases, BTreeMap::from([(2, 2)]), "{kind}");
        assert_eq!((&seen.values[0], &seen.keys[1].name), (value, &b"end".to_vec()), "{kind}");
        assert_eq!((seen.keys[0].expires_ms, seen.keys[1].expires_ms), (Some(1000), None));
    }
}

#[test]
fn what_is_not_known_is_refused() {
    for (body, said) in [
        (&b"\x06\x01kx"[..], "the unknown kind 6"),
        (b"\x08\x01kx", "the unknown kind 8"),
        (b"\x17\x01kx", "the unknown kind 23"),
        (b"\x1a\x01kx", "the unknown kind 26"),
        (b"\xf6\x01k\x00", "the unknown kind 246"),
        (b"\x00\x01k\xc4\x00", "a string is stored in an unknown way"),
        (b"\x00\xc4\x00", "a name is stored in an unknown way"),
        (b"\x00\xc3\x02\x05\x05a", "a name is packed in a broken way"),
        (b"\x00\x80\x7f\xff\xff\xff", "a name has 2147483647 bytes"),
        (b"\x00\x01k\x82", "a length is of an unknown kind"),
        (b"\x01\x01k\xc0\x01", "there is no length where one should be"),
        (b"\x12\x01k\x01\x03\x01a", "a part of a list is of an unknown kind"),
        (b"\x07\x01k\x01\x06", "a module's value is of an unknown kind"),
    ] {
        let error = walk_all(&file(12, body), Tail::None).err().unwrap().to_string();
        assert!(error.contains(said), "{said}: {error}");
    }
    for (head, said) in [
        (&b"REDIS0013"[..], "the version 13 of its format is not known"),
        (b"REDIS0004", "the version 4 of its format is not known"),
        (b"REDIS00x9", "it is no RDB file"),
        (b"VALKEY080", "it is no RDB file"),
        (b"-ERR no\r\n", "it is no RDB file"),
        (b"REDIS00", "it ends after 7 bytes"),
        (b"", "it ends after 0 bytes"),
    ] {
        let error = walk_all(head, Tail::None).err().unwrap().to_string();
        assert!(error.contains(said), "{said}: {error}");
    }
}

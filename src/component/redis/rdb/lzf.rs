//! LZF, in which Redis stores long strings: a byte below 32 is followed by one more literal byte than it says; any other is a
//! copy of what is already there, its length in the upper three bits, and how far back in the rest and the next byte.

/// The bytes that `packed` stands for, exactly `length` of them; none where it is broken.
pub(super) fn unpack(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = packed;
    while let Some((&control, after)) = rest.split_first() {
        rest = after;
        if control < 32 {
            let count = usize::from(control) + 1;
            out.extend(rest.get(..count)?);
            rest = &rest[count..];
        } else {
            let mut count = usize::from(control >> 5);
            if count == 7 {
                let (&more, after) = rest.split_first()?;
                count += usize::from(more);
                rest = after;
            }
            let (&low, after) = rest.split_first()?;
            rest = after;
            let back = (usize::from(control & 31) << 8 | usize::from(low)) + 1;
            let start = out.len().checked_sub(back)?;
            for at in start..start + count + 2 {
                out.push(out[at]);
            }
        }
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::unpack;

    #[test]
    fn literals_and_copies_are_unpacked() {
        assert_eq!(unpack(&[2, b'a', b'b', b'c'], 3).unwrap(), b"abc");
        assert_eq!(unpack(&[0, b'a', 0x20, 0, 0, b'b'], 5).unwrap(), b"aaaab");
        assert_eq!(unpack(&[1, b'a', b'b', 0xe0, 3, 1], 14).unwrap(), b"ababababababab");
        for broken in
            [&[5, b'a'][..], &[0x20, 0], &[0, b'a', 0x20], &[0, b'a', 0xe0], &[0, b'a', 0x20, 9]]
        {
            assert_eq!(unpack(broken, 4), None, "{broken:?}");
        }
        assert_eq!(unpack(&[2, b'a', b'b', b'c'], 2), None);
    }
}

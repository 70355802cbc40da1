//! Trees: a directory's entries as JSON, exactly as restic (Go's encoder) writes it, so that equal directories are
//! stored once whichever of the two programs wrote them.

use super::FormatError;
use super::quote::{push_json_string, quote, unquote};
use crate::model::id::BlobId;
use crate::model::node::{ExtendedAttribute, Node, NodeKind, is_valid_name};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use std::fmt;
use std::io::Write as _;

/// Bits of Go's `FileMode` beside the permission bits.
mod go_mode {
    pub const DIRECTORY: u32 = 1 << 31;
    pub const SYMLINK: u32 = 1 << 27;
    pub const DEVICE: u32 = 1 << 26;
    pub const FIFO: u32 = 1 << 25;
    pub const SOCKET: u32 = 1 << 24;
    pub const SET_USER_ID: u32 = 1 << 23;
    pub const SET_GROUP_ID: u32 = 1 << 22;
    pub const CHAR_DEVICE: u32 = 1 << 21;
    pub const STICKY: u32 = 1 << 20;
}

/// An entry with where its content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeNode {
    /// The entry itself.
    pub node: Node,
    /// A file's blobs in order; empty for anything else.
    pub content: Vec<BlobId>,
    /// A directory's tree; none for anything else.
    pub subtree: Option<BlobId>,
}

/// A tree as bytes. The nodes must be sorted by name.
pub fn encode(nodes: &[TreeNode]) -> Vec<u8> {
    encode_within(nodes, usize::MAX).expect("nothing is longer than the address space")
}

/// The same; none where that would be more than `limit` bytes.
pub fn encode_within(nodes: &[TreeNode], limit: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(64 + nodes.len() * 400);
    out.extend(b"{\"nodes\":[");
    for (index, node) in nodes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        encode_node(node, &mut out);
        if out.len() > limit {
            return None;
        }
    }
    out.extend(b"]}\n");
    (out.len() <= limit).then_some(out)
}

fn encode_node(TreeNode { node, content, subtree }: &TreeNode, out: &mut Vec<u8>) {
    let (kind, mode) = match node.kind {
        NodeKind::File { .. } => ("file", 0),
        NodeKind::Directory => ("dir", go_mode::DIRECTORY),
        NodeKind::Symlink { .. } => ("symlink", go_mode::SYMLINK),
        NodeKind::BlockDevice { .. } => ("dev", go_mode::DEVICE),
        NodeKind::CharDevice { .. } => ("chardev", go_mode::DEVICE | go_mode::CHAR_DEVICE),
        NodeKind::Fifo => ("fifo", go_mode::FIFO),
        NodeKind::Socket => ("socket", go_mode::SOCKET),
    };
    let mode = mode | mode_to_go(node.mode);
    out.extend(b"{\"name\":");
    push_json_string(&quote(&node.name), out);
    push(out, format_args!(",\"type\":\"{kind}\""));
    push_number("mode", u64::from(mode), out);
    let mtime = go_time(node.mtime);
    // An access time would make every night's trees differ.
    push(
        out,
        format_args!(
            ",\"mtime\":\"{mtime}\",\"atime\":\"{mtime}\",\"ctime\":\"{}\"",
            go_time(node.ctime)
        ),
    );
    push(out, format_args!(",\"uid\":{},\"gid\":{}", node.uid, node.gid));
    push_text("user", &node.user, out);
    push_text("group", &node.group, out);
    push_number("inode", node.inode, out);
    push_number("device_id", node.device_id, out);
    if let NodeKind::File { size } = node.kind {
        push_number("size", size, out);
    }
    push_number("links", node.links, out);
    if let NodeKind::Symlink { target } = &node.kind {
        push_text("linktarget", &String::from_utf8_lossy(target), out);
        if std::str::from_utf8(target).is_err() {
            push_text("linktarget_raw", &BASE64.encode(target), out);
        }
    }
    encode_attributes(&node.extended_attributes, out);
    if let NodeKind::BlockDevice { device } | NodeKind::CharDevice { device } = node.kind {
        push_number("device", device, out);
    }
    if matches!(node.kind, NodeKind::File { .. }) {
        out.extend(b",\"content\":[");
        for (index, id) in content.iter().enumerate() {
            push(out, format_args!("{}\"{id}\"", if index == 0 { "" } else { "," }));
        }
        out.push(b']');
    } else {
        out.extend(b",\"content\":null");
    }
    if let Some(id) = subtree {
        push(out, format_args!(",\"subtree\":\"{id}\""));
    }
    out.push(b'}');
}

fn encode_attributes(attributes: &[ExtendedAttribute], out: &mut Vec<u8>) {
    for (index, attribute) in attributes.iter().enumerate() {
        out.extend(if index == 0 {
            &b",\"extended_attributes\":[{\"name\":"[..]
        } else {
            b",{\"name\":"
        });
        push_json_string(&attribute.name, out);
        if attribute.value.is_empty() {
            out.extend(b",\"value\":null}");
        } else {
            push(out, format_args!(",\"value\":\"{}\"}}", BASE64.encode(&attribute.value)));
        }
    }
    if !attributes.is_empty() {
        out.push(b']');
    }
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory cannot fail");
}

fn push_number(name: &str, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        push(out, format_args!(",\"{name}\":{value}"));
    }
}

fn push_text(name: &str, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        push(out, format_args!(",\"{name}\":"));
        push_json_string(text, out);
    }
}

/// RFC 3339 in UTC. Go refuses years outside 0 to 9999, so that is what a time is clamped to.
fn go_time(time: Timestamp) -> String {
    const YEAR_ZERO_SECONDS: i64 = -62_167_219_200;
    let earliest = Timestamp::from_second(YEAR_ZERO_SECONDS).unwrap_or(Timestamp::MIN);
    time.max(earliest).to_string()
}

fn mode_to_go(mode: u32) -> u32 {
    let mut go = mode & 0o777;
    for (bit, go_bit) in
        [(0o4000, go_mode::SET_USER_ID), (0o2000, go_mode::SET_GROUP_ID), (0o1000, go_mode::STICKY)]
    {
        if mode & bit != 0 {
            go |= go_bit;
        }
    }
    go
}

fn mode_from_go(go: u32) -> u32 {
    let mut mode = go & 0o777;
    for (bit, go_bit) in
        [(0o4000, go_mode::SET_USER_ID), (0o2000, go_mode::SET_GROUP_ID), (0o1000, go_mode::STICKY)]
    {
        if go & go_bit != 0 {
            mode |= bit;
        }
    }
    mode
}

/// Bytes of memory that the nodes of one tree may take, and those of all trees that are open at one time: more than a
/// million entries. Who builds trees keeps to it, so that what is stored can be read.
pub const MAX_MEMORY: usize = 512 * 1024 * 1024;

impl TreeNode {
    /// About how many bytes of memory it takes.
    pub fn memory(&self) -> usize {
        let Node { name, kind, user, group, extended_attributes, .. } = &self.node;
        let target = if let NodeKind::Symlink { target } = kind { target.len() } else { 0 };
        let attributes = extended_attributes.iter().map(|attribute| {
            size_of::<ExtendedAttribute>() + attribute.name.len() + attribute.value.len()
        });
        size_of::<Self>()
            + [name.len(), target, user.len(), group.len()].iter().sum::<usize>()
            + attributes.sum::<usize>()
            + self.content.len() * size_of::<BlobId>()
    }
}

/// Takes the nodes one by one, so that a crafted tree is refused before it fills the memory.
struct Nodes {
    limit: usize,
}

impl<'de> DeserializeSeed<'de> for Nodes {
    type Value = Vec<TreeNode>;

    fn deserialize<D: Deserializer<'de>>(self, tree: D) -> Result<Self::Value, D::Error> {
        tree.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nodes {
    type Value = Vec<TreeNode>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a tree's nodes")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut stored: A) -> Result<Self::Value, A::Error> {
        let (mut nodes, mut memory) = (Vec::<TreeNode>::new(), 0);
        while let Some(node) = stored.next_element::<StoredNode>()? {
            let node = decode_node(node).map_err(A::Error::custom)?;
            memory += node.memory();
            if memory > self.limit {
                let error = "the trees that are open at one time need too much memory";
                return Err(A::Error::custom(error));
            }
            if nodes.last().is_some_and(|last| last.node.name >= node.node.name) {
                let error = "the entries of a tree are not sorted, or one comes twice";
                return Err(A::Error::custom(error));
            }
            nodes.push(node);
        }
        Ok(nodes)
    }
}

/// The tree itself: of its members only `nodes` counts.
struct Members {
    limit: usize,
}

impl<'de> Visitor<'de> for Members {
    type Value = Vec<TreeNode>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a tree")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut nodes = None;
        while let Some(name) = members.next_key::<String>()? {
            if name != "nodes" {
                members.next_value::<IgnoredAny>()?;
            } else if nodes.is_some() {
                return Err(A::Error::duplicate_field("nodes"));
            } else {
                nodes = Some(members.next_value_seed(Nodes { limit: self.limit })?);
            }
        }
        Ok(nodes.unwrap_or_default())
    }
}

#[derive(Deserialize)]
struct StoredNode {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    mode: u32,
    mtime: Option<Timestamp>,
    ctime: Option<Timestamp>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    user: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    device_id: u64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    links: u64,
    #[serde(default)]
    linktarget: String,
    linktarget_raw: Option<String>,
    extended_attributes: Option<Vec<StoredAttribute>>,
    #[serde(default)]
    device: u64,
    content: Option<Vec<BlobId>>,
    subtree: Option<BlobId>,
}

#[derive(Deserialize)]
struct StoredAttribute {
    name: String,
    value: Option<String>,
}

/// The nodes of a tree, with every name checked: none leaves its directory, and none comes twice.
pub fn decode(bytes: &[u8]) -> Result<Vec<TreeNode>, FormatError> {
    decode_within(bytes, MAX_MEMORY)
}

/// The same, refused where the nodes take more than `limit` bytes of memory.
pub fn decode_within(bytes: &[u8], limit: usize) -> Result<Vec<TreeNode>, FormatError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let nodes = json.deserialize_map(Members { limit }).map_err(FormatError::invalid)?;
    json.end().map_err(FormatError::invalid)?;
    Ok(nodes)
}

fn decode_node(stored: StoredNode) -> Result<TreeNode, FormatError> {
    let name = unquote(&stored.name)?;
    if !is_valid_name(&name) {
        return Err(FormatError::invalid(format!("{:?} is no name of a file", stored.name)));
    }
    let decode_base64 = |text: &str| BASE64.decode(text).map_err(FormatError::invalid);
    let kind = match stored.kind.as_str() {
        "file" => NodeKind::File { size: stored.size },
        "dir" => NodeKind::Directory,
        "symlink" => NodeKind::Symlink {
            target: match &stored.linktarget_raw {
                Some(raw) => decode_base64(raw)?,
                None => stored.linktarget.into_bytes(),
            },
        },
        "dev" => NodeKind::BlockDevice { device: stored.device },
        "chardev" => NodeKind::CharDevice { device: stored.device },
        "fifo" => NodeKind::Fifo,
        "socket" => NodeKind::Socket,
        other => {
            return Err(FormatError::invalid(format!(
                "{:?} has the unknown type {other:?}",
                stored.name
            )));
        }
    };
    if kind == NodeKind::Directory && stored.subtree.is_none() {
        return Err(FormatError::invalid(format!("the directory {:?} has no tree", stored.name)));
    }
    let mut extended_attributes = Vec::new();
    for attribute in stored.extended_attributes.unwrap_or_default() {
        let value = decode_base64(attribute.value.as_deref().unwrap_or_default())?;
        extended_attributes.push(ExtendedAttribute { name: attribute.name, value });
    }
    let is_file = matches!(kind, NodeKind::File { .. });
    let is_directory = kind == NodeKind::Directory;
    Ok(TreeNode {
        node: Node {
            name,
            kind,
            mode: mode_from_go(stored.mode),
            mtime: stored.mtime.unwrap_or(Timestamp::UNIX_EPOCH),
            ctime: stored.ctime.unwrap_or(Timestamp::UNIX_EPOCH),
            uid: stored.uid,
            gid: stored.gid,
            user: stored.user,
            group: stored.group,
            inode: stored.inode,
            device_id: stored.device_id,
            links: stored.links,
            extended_attributes,
        },
        content: if is_file { stored.content.unwrap_or_default() } else { Vec::new() },
        subtree: stored.subtree.filter(|_| is_directory),
    })
}

#[cfg(test)]
pub(in crate::repository) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::repository) fn node(name: &[u8], kind: NodeKind) -> Node {
        Node {
            name: name.to_owned(),
            kind,
            mode: 0o644,
            mtime: "1999-12-31T23:59:59.123456789Z".parse().unwrap(),
            ctime: "2026-11-21T04:11:00.5Z".parse().unwrap(),
            uid: 1000,
            gid: 0,
            user: "ann".into(),
            group: String::new(),
            inode: 7,
            device_id: 0,
            links: 1,
            extended_attributes: vec![],
        }
    }

    #[test]
    fn a_tree_is_written_as_restic_writes_it() {
        let mut file = node(b"a<\xff", NodeKind::File { size: 3 });
        file.mode = 0o4755;
        file.extended_attributes =
            vec![ExtendedAttribute { name: "user.k".into(), value: b"v".to_vec() }];
        let file = TreeNode { node: file, content: vec![BlobId([0xab; 32])], subtree: None };
        let empty = TreeNode {
            node: node(b"b", NodeKind::File { size: 0 }),
            content: vec![],
            subtree: None,
        };
        let link = node(b"c", NodeKind::Symlink { target: b"../x".to_vec() });
        let link = TreeNode { node: link, content: vec![], subtree: None };
        let directory = node(b"d", NodeKind::Directory);
        let directory =
            TreeNode { node: directory, content: vec![], subtree: Some(BlobId([1; 32])) };
        let times = r#""mtime":"1999-12-31T23:59:59.123456789Z","atime":"1999-12-31T23:59:59.123456789Z","ctime":"2026-11-21T04:11:00.5Z","uid":1000,"gid":0,"user":"ann","inode":7"#;
        let expected = format!(
            "{}{}{}{}{}",
            r#"{"nodes":["#,
            format_args!(
                r#"{{"name":"a\u003c\\xff","type":"file","mode":8389101,{times},"size":3,"links":1,"extended_attributes":[{{"name":"user.k","value":"dg=="}}],"content":["{}"]}},"#,
                "ab".repeat(32)
            ),
            format_args!(
                r#"{{"name":"b","type":"file","mode":420,{times},"links":1,"content":[]}},"#
            ),
            format_args!(
                r#"{{"name":"c","type":"symlink","mode":134218148,{times},"links":1,"linktarget":"../x","content":null}},"#
            ),
            format_args!(
                r#"{{"name":"d","type":"dir","mode":2147484068,{times},"links":1,"content":null,"subtree":"{}"}}]}}{}"#,
                "01".repeat(32),
                "\n"
            ),
        );
        let nodes = vec![file, empty, link, directory];
        let bytes = encode(&nodes);
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(decode(&bytes).unwrap(), nodes);
    }

    #[test]
    fn a_tree_that_needs_too_much_memory_is_refused() {
        let nodes: Vec<TreeNode> = (0..100)
            .map(|number| TreeNode {
                node: node(format!("{number:03}").as_bytes(), NodeKind::Fifo),
                content: vec![],
                subtree: None,
            })
            .collect();
        let bytes = encode(&nodes);
        let memory = nodes.iter().map(TreeNode::memory).sum();
        assert_eq!(decode_within(&bytes, memory).unwrap(), nodes);
        assert!(decode_within(&bytes, memory - 1).is_err());
        assert_eq!(encode_within(&nodes, bytes.len()), Some(bytes.clone()));
        assert_eq!(encode_within(&nodes, bytes.len() - 1), None);
    }

    #[test]
    fn names_that_leave_the_directory_or_come_twice_are_refused() {
        for name in ["..", ".", "", "a/b", "/etc/passwd", "a\\x00b"] {
            let json = format!(r#"{{"nodes":[{{"name":{name:?},"type":"file"}}]}}"#);
            assert!(decode(json.as_bytes()).is_err(), "{name}");
        }
        assert!(
            decode(br#"{"nodes":[{"name":"a","type":"fifo"},{"name":"a","type":"fifo"}]}"#)
                .is_err()
        );
        assert!(
            decode(br#"{"nodes":[{"name":"b","type":"fifo"},{"name":"a","type":"fifo"}]}"#)
                .is_err()
        );
        assert!(
            decode(br#"{"nodes":[{"name":"a","type":"dir"}]}"#).is_err(),
            "a directory without a tree"
        );
        assert!(decode(br#"{"nodes":[{"name":"a","type":"irregular"}]}"#).is_err());
        assert_eq!(decode(br#"{"nodes":null}"#).unwrap(), vec![]);
    }

    #[test]
    fn times_that_go_could_not_read_are_clamped() {
        assert_eq!(go_time(Timestamp::MIN), "0000-01-01T00:00:00Z");
        assert_eq!(go_time(Timestamp::UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }

    fn any_node() -> impl Strategy<Value = TreeNode> {
        let kind = prop_oneof![
            (any::<u64>(), proptest::collection::vec(any::<[u8; 32]>(), 0..4))
                .prop_map(|(size, ids)| (NodeKind::File { size }, ids, None)),
            any::<[u8; 32]>().prop_map(|id| (NodeKind::Directory, vec![], Some(BlobId(id)))),
            proptest::collection::vec(any::<u8>(), 1..20).prop_map(|target| (
                NodeKind::Symlink { target },
                vec![],
                None
            )),
            any::<u64>().prop_map(|device| (NodeKind::BlockDevice { device }, vec![], None)),
            any::<u64>().prop_map(|device| (NodeKind::CharDevice { device }, vec![], None)),
            Just((NodeKind::Fifo, vec![], None)),
            Just((NodeKind::Socket, vec![], None)),
        ];
        let numbers = (0_u32..0o10000, any::<u32>(), any::<u64>());
        let time = (-60_000_000_000_i64..200_000_000_000, 0..1_000_000_000_i32);
        let name = proptest::collection::vec(any::<u8>(), 1..30)
            .prop_filter("a name", |name| is_valid_name(name));
        let attributes = proptest::collection::vec(
            ("[a-z.]{1,9}", proptest::collection::vec(any::<u8>(), 0..9)),
            0..3,
        );
        (kind, name, numbers, time, ".*", attributes).prop_map(
            |(
                (kind, ids, subtree),
                name,
                (mode, uid, inode),
                (second, nanosecond),
                user,
                attributes,
            )| {
                let mut node = node(&name, kind);
                node.mode = mode;
                node.uid = uid;
                node.inode = inode;
                node.mtime =
                    Timestamp::new(second, if second < 0 { -nanosecond } else { nanosecond })
                        .unwrap();
                node.user = user;
                let attribute = |(name, value)| ExtendedAttribute { name, value };
                node.extended_attributes = attributes.into_iter().map(attribute).collect();
                TreeNode { node, content: ids.into_iter().map(BlobId).collect(), subtree }
            },
        )
    }

    proptest! {
        #[test]
        fn any_tree_survives(nodes in proptest::collection::vec(any_node(), 0..8)) {
            let mut nodes = nodes;
            nodes.sort_by(|a, b| a.node.name.cmp(&b.node.name));
            nodes.dedup_by(|a, b| a.node.name == b.node.name);
            prop_assert_eq!(decode(&encode(&nodes)).unwrap(), nodes);
        }

        #[test]
        fn any_bytes_are_a_tree_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}

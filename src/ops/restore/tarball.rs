//! A tree of a snapshot as a tar stream of the format `pax`, for where no other way leads.
//!
//! Sockets are left out, and so are attributes that belong to the system rather than to the files: what runs there gives its own.

use super::survey::{Linked, Open, at, ensure_length};
use crate::component::files::remote::StageError;
use crate::model::node::{Node, NodeKind, display_path};
use crate::ops::{Context, OpsError};
use crate::repository::RepositoryError;
use crate::repository::format::pack::BlobKind;
use crate::repository::format::tree::TreeNode;
use crate::repository::reader::Reader;
use jiff::Timestamp;
use std::collections::HashMap;
use std::io::{self, Write};
use tar::{Builder, EntryType, Header};

/// Everything in an archive comes in blocks of so many bytes.
const BLOCK: u64 = 512;
/// A header has room for numbers below this, in octal digits.
const MOST_SIZE: u64 = 1 << 33;
const MOST_OWNER: u32 = 1 << 21;

/// Write the tree below `root`, a directory, which is `.` in the stream. Returns how many entries were written.
pub fn write_tree(
    reader: &Reader,
    root: &TreeNode,
    context: &Context,
    output: &mut dyn Write,
) -> Result<u64, StageError<OpsError>> {
    let mut tarball = Tarball {
        reader,
        context,
        builder: Builder::new(output),
        links: HashMap::new(),
        entries: 0,
    };
    tarball.tree(root)?;
    tarball.builder.finish()?;
    Ok(tarball.entries)
}

struct Tarball<'a> {
    reader: &'a Reader,
    context: &'a Context,
    builder: Builder<&'a mut dyn Write>,
    /// Where the content is of files that have several names.
    links: HashMap<Linked, Vec<u8>>,
    entries: u64,
}

/// What a header has no room for.
type Records = Vec<(String, Vec<u8>)>;

fn source(error: impl Into<OpsError>) -> StageError<OpsError> {
    StageError::Source(error.into())
}

impl Tarball<'_> {
    fn tree(&mut self, root: &TreeNode) -> Result<(), StageError<OpsError>> {
        let Some(subtree) = root.subtree else {
            let message = "a component that is no directory cannot be a tar stream";
            return Err(source(RepositoryError::Internal(message.into())));
        };
        let path = b".".to_vec();
        self.entry(&path, root)?;
        let nodes = self.reader.open_tree(subtree, path.len()).map_err(source)?;
        let mut open = vec![Open { path, nodes }];
        while let Some(directory) = open.last_mut() {
            self.context.cancel.check().map_err(source)?;
            let Some(node) = directory.nodes.next() else {
                open.pop();
                continue;
            };
            let path = [directory.path.as_slice(), b"/", &node.node.name].concat();
            self.entry(&path, &node)?;
            if let (NodeKind::Directory, Some(subtree)) = (&node.node.kind, node.subtree) {
                let nodes = self.reader.open_tree(subtree, path.len()).map_err(source)?;
                open.push(Open { path, nodes });
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &[u8], node: &TreeNode) -> Result<(), StageError<OpsError>> {
        let mut header = Header::new_ustar();
        let mut records = Records::new();
        let mut content = None;
        let kind = match &node.node.kind {
            NodeKind::Socket => return Ok(()),
            NodeKind::Directory => EntryType::Directory,
            NodeKind::Fifo => EntryType::Fifo,
            NodeKind::Symlink { target } => {
                set_link(&mut header, &mut records, target);
                EntryType::Symlink
            }
            NodeKind::BlockDevice { device } => {
                set_device(&mut header, *device)?;
                EntryType::Block
            }
            NodeKind::CharDevice { device } => {
                set_device(&mut header, *device)?;
                EntryType::Char
            }
            NodeKind::File { size } => {
                if let Some(first) = self.first_name(path, node) {
                    set_link(&mut header, &mut records, &first);
                    EntryType::Link
                } else {
                    content = Some(*size);
                    EntryType::Regular
                }
            }
        };
        header.set_entry_type(kind);
        set_metadata(&mut header, &mut records, &node.node);
        let slash: &[u8] = if kind == EntryType::Directory { b"/" } else { b"" };
        let name = [path, slash].concat();
        let field = &mut header.as_old_mut().name;
        put(field, &name, &mut records, "path");
        let size = content.unwrap_or(0);
        header.set_size(size);
        if size >= MOST_SIZE {
            records.push(("size".into(), size.to_string().into()));
        }
        header.set_cksum();
        let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records)?;
        self.builder.append(&header, io::empty())?;
        if content.is_some() {
            self.content(path, node, size)?;
        }
        self.entries += 1;
        Ok(())
    }

    /// Where the content of this file is already, if it has another name that was written.
    fn first_name(&mut self, path: &[u8], node: &TreeNode) -> Option<Vec<u8>> {
        let linked = Linked::of(node)?;
        if let Some(first) = self.links.get(&linked) {
            return Some(first.clone());
        }
        self.links.insert(linked, path.to_vec());
        None
    }

    fn content(
        &mut self,
        path: &[u8],
        node: &TreeNode,
        size: u64,
    ) -> Result<(), StageError<OpsError>> {
        let shown = || display_path(path);
        let mut length = 0;
        for id in &node.content {
            self.context.cancel.check().map_err(source)?;
            let blob = self.reader.blob(BlobKind::Data, *id);
            let blob = blob.map_err(|error| source(at(&shown(), error)))?;
            length += blob.len() as u64;
            if length > size {
                break;
            }
            self.builder.get_mut().write_all(&blob)?;
        }
        ensure_length(&node.node, length, shown).map_err(source)?;
        let fill = (size.wrapping_neg() % BLOCK) as usize;
        self.builder.get_mut().write_all(&[0; BLOCK as usize][..fill])?;
        Ok(())
    }
}

/// Put a name into its field of the header, or, where it does not fit, into a record.
fn put(field: &mut [u8], name: &[u8], records: &mut Records, key: &str) {
    if name.len() <= field.len() && name.is_ascii() {
        field[..name.len()].copy_from_slice(name);
    } else {
        records.push((key.to_owned(), name.to_vec()));
    }
}

fn set_link(header: &mut Header, records: &mut Records, target: &[u8]) {
    put(&mut header.as_old_mut().linkname, target, records, "linkpath");
}

fn set_device(header: &mut Header, device: u64) -> io::Result<()> {
    header.set_device_major(rustix::fs::major(device))?;
    header.set_device_minor(rustix::fs::minor(device))
}

fn set_metadata(header: &mut Header, records: &mut Records, node: &Node) {
    header.set_mode(node.mode);
    header.set_uid(u64::from(node.uid));
    header.set_gid(u64::from(node.gid));
    for (key, id) in [("uid", node.uid), ("gid", node.gid)] {
        if id >= MOST_OWNER {
            records.push((key.to_owned(), id.to_string().into()));
        }
    }
    header.set_mtime(u64::try_from(node.mtime.as_second()).unwrap_or(0).min(MOST_SIZE - 1));
    records.push(("mtime".into(), seconds(node.mtime).into()));
    for attribute in &node.extended_attributes {
        let name = &attribute.name;
        let is_systems = name.starts_with("trusted.")
            || name.starts_with("security.") && name != "security.capability";
        if !is_systems {
            let name = name.replace('%', "%25").replace('=', "%3D");
            records.push((format!("SCHILY.xattr.{name}"), attribute.value.clone()));
        }
    }
}

/// A time as a decimal number of seconds.
fn seconds(time: Timestamp) -> String {
    let nanoseconds = time.as_nanosecond();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let nanoseconds = nanoseconds.unsigned_abs();
    format!("{sign}{}.{:09}", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::component::files::remote::{RemoteError, RemoteSwap};
    use crate::component::files::walk::{WalkOptions, read_tree};
    use crate::model::event::{Cancel, Events};
    use crate::model::via::Via;
    use crate::ops::checksums::ChecksumWriter;
    use crate::ops::session::Session;
    use crate::ops::state::snapshot_file;
    use crate::ops::tree::TreeBuilder;
    use crate::repository::Repository;
    use crate::repository::blob_index::BlobIndex;
    use crate::repository::format::key::ScryptCost;
    use crate::repository::lock::LockMode;
    use crate::repository::writer::Writer;
    use crate::store::local::LocalStore;
    use std::fs;
    use std::path::Path;
    use std::process::Command;
    use std::sync::Arc;
    use std::time::Duration;
    use tempfile::TempDir;

    /// A tree in a repository.
    struct Stored {
        _directory: TempDir,
        reader: Reader,
        root: TreeNode,
        context: Context,
    }

    impl Stored {
        fn of(source: &Path) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let store = Arc::new(LocalStore::new(directory.path().join("repository")));
            let repository = Repository::init(store, b"password", ScryptCost::RANDOM_KEY).unwrap();
            let session = Session::with_parts(Arc::new(repository), None, None, Duration::ZERO);
            let repository = Arc::clone(&session.repository);
            let context = Context::new(Events::ignored(), Cancel::new());
            let index = BlobIndex::load(&repository).unwrap();
            let writer = Writer::start(&repository, index, &context.cancel).unwrap();
            let mut sums = ChecksumWriter::new(writer.document());
            let mut builder = TreeBuilder::new(&writer, None, &mut sums);
            let options = WalkOptions::default();
            read_tree(source, b"files", &options, &context.cancel, &mut builder, &mut |_, _| {})
                .unwrap();
            let root = builder.finish().unwrap();
            let lock = session.lock(LockMode::Shared, "test", &context).unwrap();
            let file = snapshot_file(root.subtree.unwrap(), Timestamp::UNIX_EPOCH, vec![]);
            writer.commit(file, &lock, &context.events).unwrap();
            let reader = Reader::new(&repository).unwrap();
            Self { _directory: directory, reader, root, context }
        }

        fn stage(&self, swap: &RemoteSwap<'_>) -> Result<(), StageError<OpsError>> {
            swap.stage(|output| write_tree(&self.reader, &self.root, &self.context, output))
        }
    }

    fn make_tree(root: &Path) {
        let shell = r#"set -e; cd "$1"; mkdir -p dir/empty; echo text > dir/file; ln dir/file again; ln -s ../nowhere dangling
            chmod 4750 dir/file; chown 70000:3000000000 dir/empty; chmod 1500 dir/empty; mkfifo -m 640 pipe; mknod device c 5 300
            head -c 3000000 /dev/urandom > big; truncate -s 1M hole; touch -d '1969-01-01 00:00:00.5 UTC' big
            n=$(printf 'n%.0s' $(seq 200)); mkdir -p "$n/$n"; echo x > "$n/$n/$(printf '\377\nx')"; ln -s "$n" far
            setfattr -n 'user.a%b=c' -v 0x000a3d31 dir; setfacl -m u:1000:rw again; touch -d '2001-02-03 04:05:06.123456789 UTC' .
            chmod 2775 . ; chown 1000:1001 ."#;
        let mut command = Command::new("bash");
        assert!(command.args(["-c", shell, "sh"]).arg(root).status().unwrap().success());
    }

    /// All that tar sees of a tree.
    fn picture(root: &Path) -> Vec<u8> {
        let mut command = Command::new("tar");
        command.args(["--create", "--format=pax", "--sort=name", "--numeric-owner", "--xattrs"]);
        command.args(["--xattrs-include=*", "--pax-option=delete=atime,delete=ctime"]);
        command.args(["--pax-option=exthdr.name=%d/%f", "--exclude=.belay-*", "-C"]);
        let output = command.arg(root).arg(".").env("LC_ALL", "C").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn mount(path: &Path) {
        let mut command = Command::new("mount");
        let is_mounted = command.args(["-t", "tmpfs", "-o", "size=40m", "none"]).arg(path).status();
        assert!(is_mounted.unwrap().success(), "the tests run as root");
    }

    struct Mounted(std::path::PathBuf);

    impl Drop for Mounted {
        fn drop(&mut self) {
            Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
        }
    }

    fn local() -> Access {
        Access::new(Via::local(), None, &Cancel::new())
    }

    #[test]
    fn a_tree_is_staged_swapped_in_put_back_and_dropped() {
        let source = tempfile::tempdir().unwrap();
        make_tree(source.path());
        let stored = Stored::of(source.path());
        let wanted = picture(source.path());
        for is_mounted in [false, true] {
            let place = tempfile::tempdir().unwrap();
            let target = place.path().join("git storage");
            fs::create_dir(&target).unwrap();
            let _mounted = is_mounted.then(|| {
                mount(&target);
                Mounted(target.clone())
            });
            fs::write(target.join("big"), "old").unwrap();
            fs::write(target.join(".hidden"), "old").unwrap();
            fs::create_dir(target.join("..dots")).unwrap();
            let old = picture(&target);
            let access = local();
            let swap = RemoteSwap::new(&access, target.to_str().unwrap(), "j1");
            assert!(swap.swap().is_err(), "nothing is staged");
            stored.stage(&swap).unwrap();
            assert!(picture(&target) == old, "staging changes nothing");
            swap.undo().unwrap();
            assert!(picture(&target) == old, "there is nothing to undo");
            assert!(swap.drop_old().is_err(), "it is not swapped in");
            // Again, as after a kill.
            stored.stage(&swap).unwrap();
            for _ in 0..2 {
                let kept = swap.swap().unwrap().expect("there was something before");
                assert!(picture(&target) == wanted);
                assert_eq!(fs::read(Path::new(&kept).join("big")).unwrap(), b"old");
            }
            assert!(swap.abandon().is_ok_and(|()| picture(&target) == wanted), "all is swapped in");
            for _ in 0..2 {
                swap.undo().unwrap();
                assert!(picture(&target) == old, "mounted: {is_mounted}");
            }
            swap.swap().unwrap();
            assert!(picture(&target) == wanted, "what was staged is still there");
            swap.undo().unwrap();
            swap.abandon().unwrap();
            assert!(picture(&target) == old);
            assert!(!names(&target).iter().any(|name| name.starts_with(".belay")));
            assert_eq!(names(place.path()), ["git storage"]);
            stored.stage(&swap).unwrap();
            swap.swap().unwrap();
            swap.drop_old().unwrap();
            assert!(picture(&target) == wanted);
            assert!(!names(&target).iter().any(|name| name.starts_with(".belay")));
            assert_eq!(names(place.path()), ["git storage"]);
        }
    }

    #[test]
    fn where_there_was_nothing_there_is_nothing_again() {
        let source = tempfile::tempdir().unwrap();
        make_tree(source.path());
        let stored = Stored::of(source.path());
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("new");
        let access = local();
        let swap = RemoteSwap::new(&access, target.to_str().unwrap(), "j2");
        stored.stage(&swap).unwrap();
        assert_eq!(swap.swap().unwrap(), None);
        assert!(picture(&target) == picture(source.path()));
        swap.undo().unwrap();
        assert!(!target.exists());
        swap.swap().unwrap();
        swap.drop_old().unwrap();
        assert_eq!(names(place.path()), ["new"]);
    }

    #[test]
    fn what_does_not_fit_is_no_tree_and_says_why() {
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("big"), vec![1; 50 << 20]).unwrap();
        let stored = Stored::of(source.path());
        let place = tempfile::tempdir().unwrap();
        mount(place.path());
        let _mounted = Mounted(place.path().to_owned());
        let access = local();
        let swap = RemoteSwap::new(&access, place.path().to_str().unwrap(), "j3");
        let error = stored.stage(&swap).unwrap_err();
        let said = error.to_string();
        assert!(["Wrote only", "No space left"].iter().any(|why| said.contains(why)), "{said}");
        assert!(swap.swap().is_err(), "it is not complete");
        swap.abandon().unwrap();
        assert_eq!(names(place.path()), Vec::<String>::new());
    }

    #[test]
    fn a_stream_of_which_a_part_did_not_arrive_is_no_tree() {
        let place = tempfile::tempdir().unwrap();
        let (target, access) = (place.path().join("x"), local());
        let swap = RemoteSwap::new(&access, target.to_str().unwrap(), "j4");
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("f"), "x").unwrap();
        let stored = Stored::of(source.path());
        let staged: Result<(), StageError<OpsError>> = swap.stage(|output| {
            let entries = write_tree(&stored.reader, &stored.root, &stored.context, output)?;
            Ok(entries + 1)
        });
        let error = staged.unwrap_err();
        assert!(
            matches!(&error, StageError::Remote(RemoteError::Incomplete { entries: 3, found, .. }) if found.trim() == "2"),
            "{error}"
        );
        let staged: Result<(), StageError<OpsError>> = swap.stage(|output| {
            output.write_all(&[1; 700])?;
            Ok(1)
        });
        assert!(staged.unwrap_err().to_string().contains("does not look like a tar archive"));
        assert!(swap.swap().is_err());
        swap.abandon().unwrap();
        assert_eq!(names(place.path()), Vec::<String>::new());
    }
}

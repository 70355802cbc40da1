//! Databases taken as a backup takes them, and put back step by step.

use crate::support::PostgresServer;
use belay::component::postgres::archive::Block;
use belay::component::postgres::restore::{
    ArchiveFacts, Expected, Restore, RestorePlan, RoleWork, StoredArchive, Wanted, look,
};
use belay::component::postgres::{Begun, Connection, DatabaseFacts, PostgresError, Tap};
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use zeroize::Zeroizing;

/// The database that the steps connect to.
pub const MAINTENANCE: &str = "postgres";

/// What a snapshot would have.
pub struct Taken {
    pub databases: Vec<DatabaseFacts>,
    pub archives: Vec<ArchiveFacts>,
    pub globals: String,
    pub passwords: Vec<(String, Zeroizing<String>)>,
    pub kept_roles: Vec<String>,
    pub dumps: Vec<Vec<u8>>,
    pub rows: Vec<BTreeMap<String, BTreeMap<String, u64>>>,
    pub large_objects: Vec<u64>,
}

/// An archive that comes out of whatever opens it.
pub struct Stored<'a>(pub Box<dyn Fn() -> Box<dyn Read + Send> + Sync + 'a>);

impl StoredArchive for Stored<'_> {
    fn whole(&self) -> Box<dyn Read + Send> {
        (self.0)()
    }

    fn ranges(&self, ranges: &[Range<u64>]) -> io::Result<Box<dyn Read + Send>> {
        let (mut all, mut some) = (Vec::new(), Vec::new());
        self.whole().read_to_end(&mut all)?;
        for range in ranges {
            let end = all.len().min(range.end as usize);
            some.extend_from_slice(&all[end.min(range.start as usize)..end]);
        }
        Ok(Box::new(Cursor::new(some)))
    }
}

impl Taken {
    pub fn from(server: &PostgresServer, names: &[&str]) -> Self {
        let connection = server.connect("taking");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut begun = Begun::begin(&connection, &names).unwrap();
        let globals = String::from_utf8(begun.globals().unwrap()).unwrap();
        let mut taken = Self {
            databases: Vec::new(),
            archives: Vec::new(),
            globals,
            passwords: Vec::new(),
            kept_roles: Vec::new(),
            dumps: Vec::new(),
            rows: Vec::new(),
            large_objects: Vec::new(),
        };
        for position in 0..names.len() {
            let mut dump = Vec::new();
            let mut tap = Tap { wanted: &[], row: &mut |_| {} };
            let dumped = begun.dump(position, &mut dump, &mut tap, &mut |_| {}).unwrap();
            let mut rows: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
            for table in &dumped.summary.tables {
                rows.entry(table.schema.to_string())
                    .or_default()
                    .insert(table.table.to_string(), table.rows);
            }
            taken.archives.push(ArchiveFacts::of(&dumped.summary));
            taken.large_objects.push(dumped.summary.large_objects);
            taken.databases.push(dumped.facts);
            taken.dumps.push(dump);
            taken.rows.push(rows);
        }
        begun.end().unwrap();
        taken
    }

    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            databases: &self.databases,
            archives: &self.archives,
            globals: &self.globals,
            passwords: &self.passwords,
            kept_roles: &self.kept_roles,
        }
    }

    pub fn plan(&self, connection: &Connection) -> (RestorePlan, RoleWork) {
        look(connection, MAINTENANCE, &self.wanted(), "job-1").unwrap()
    }

    pub fn stored(&self, position: usize) -> Stored<'_> {
        Stored(Box::new(move || Box::new(Cursor::new(self.dumps[position].clone()))))
    }

    /// What has to be known of an archive that is restored over several connections.
    pub fn known(&self, position: usize) -> (u64, &[Block]) {
        (self.dumps[position].len() as u64, &self.archives[position].blocks)
    }

    pub fn expected(&self, position: usize) -> Expected<'_> {
        Expected {
            rows: &self.rows[position],
            large_objects: self.large_objects[position],
            extensions: &self.archives[position].extensions,
        }
    }

    /// From the making of the databases to the last step before the swap.
    pub fn prepare(
        &self,
        restore: &Restore<'_>,
        plan: &RestorePlan,
        work: &RoleWork,
    ) -> Result<(), PostgresError> {
        restore.create(work)?;
        for (position, planned) in plan.databases.iter().enumerate() {
            let known = Some(self.known(position));
            restore.fill(planned, &self.stored(position), known, &mut |_| {})?;
            let differences = restore.verify(planned, &self.expected(position))?;
            assert_eq!(differences, [""; 0]);
            restore.settle(planned)?;
        }
        Ok(())
    }

    /// All of it.
    pub fn put_back(&self, connection: &Connection) -> RestorePlan {
        let (plan, work) = self.plan(connection);
        let restore = Restore::new(connection, MAINTENANCE, &plan).unwrap();
        self.prepare(&restore, &plan, &work).unwrap();
        restore.swap(&work).unwrap();
        restore.clear_old().unwrap();
        plan
    }
}

/// All that a server holds in these databases and beside them, as PostgreSQL's own programs write it.
pub fn picture(server: &PostgresServer, databases: &[&str]) -> String {
    let mut text = PostgresServer::output(server.program("pg_dumpall").arg("--globals-only"));
    for database in databases {
        let mut dumping = server.program("pg_dump");
        dumping.arg("--create").env("PGDATABASE", database);
        text.push_str(&PostgresServer::output(&mut dumping));
    }
    // They carry a random key.
    let is_same =
        |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
    // Their order is that of a catalog's rows.
    let has_order =
        |line: &&str| !(line.starts_with("ALTER ROLE") && line.contains(" IN DATABASE "));
    let (mut lines, mut others): (Vec<_>, Vec<_>) =
        text.lines().filter(is_same).partition(has_order);
    others.sort_unstable();
    lines.extend(others);
    lines.join("\n")
}

/// Panics with the first lines that differ, and not with all of both.
pub fn assert_same_picture(left: &str, right: &str) {
    let mut lines = left.lines().zip(right.lines()).enumerate();
    if let Some((number, (left, right))) = lines.find(|(_, (left, right))| left != right) {
        panic!("line {number}:\n{left}\n{right}");
    }
    assert_eq!(left.lines().count(), right.lines().count());
}

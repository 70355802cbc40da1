//! What is really so in the fake world, whatever anybody believes: two servers, snapshots, a clock that may be wrong, and time.

use jiff::Timestamp;

/// A `SplitMix64`: small, and the same everywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Whether what happens so often of a thousand times happens.
    pub(super) fn per_mille(&mut self, times: u64) -> bool {
        self.below(1_000) < times
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

pub(super) const MINUTE: i64 = 60;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;
/// For how long stopped writers stay so when nobody renews the lease.
const LEASE: i64 = 15 * MINUTE;

/// A server, by which version it runs (from 0), whether it works, and how many writes it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each may be so without the others")]
pub(super) struct Server {
    pub(super) version: usize,
    /// Another image under the same tag.
    pub(super) odd_image: bool,
    /// It is between two versions: no data of either.
    pub(super) half: bool,
    /// It works with the data that it has.
    pub(super) works: bool,
    pub(super) data: u64,
    pub(super) writers: bool,
    pub(super) users_kept_out: bool,
    /// Since when by the clock nothing has written, as the instance's side knows it.
    pub(super) stopped_since: Option<i64>,
    /// A timer beside it starts the writers again.
    pub(super) armed: bool,
    pub(super) keys_fit: bool,
}

impl Server {
    fn new() -> Self {
        Self {
            version: 0,
            odd_image: false,
            half: false,
            works: true,
            data: 1,
            writers: true,
            users_kept_out: false,
            stopped_since: None,
            armed: false,
            keys_fit: true,
        }
    }

    /// Good, and of that version.
    pub(super) fn is_good(&self, version: usize) -> bool {
        self.version == version && self.works && !self.half
    }

    /// What a snapshot of it would hold.
    pub(super) fn content(&self) -> (usize, bool, u64) {
        (self.version, self.half, self.data)
    }
}

/// A snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shot {
    pub(super) of_production: bool,
    /// By the clock, and in truth.
    pub(super) clock: i64,
    pub(super) time: i64,
    pub(super) version: usize,
    pub(super) data: u64,
    pub(super) keys_fit: bool,
    /// None where it is sealed, of one moment, and has all that it refers to.
    pub(super) flaw: Option<Flaw>,
    pub(super) pinned: bool,
}

/// Why a snapshot is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    NotSealed,
    NotWhole,
    OfSeveralMoments,
}

pub(super) struct Truth {
    pub(super) time: i64,
    /// What the clock says, less the true time.
    pub(super) wrong_by: i64,
    /// When it was set last.
    pub(super) clock_set: i64,
    pub(super) staging: Server,
    pub(super) production: Server,
    pub(super) shots: Vec<Shot>,
    pub(super) room: bool,
    /// Production answers badly for a while, for reasons of its own.
    pub(super) ill: bool,
}

impl Truth {
    pub(super) fn new() -> Self {
        Self {
            time: 1_780_000_000,
            wrong_by: 0,
            clock_set: 0,
            staging: Server::new(),
            production: Server::new(),
            shots: Vec::new(),
            room: true,
            ill: false,
        }
    }

    /// What the clock says.
    pub(super) fn clock(&self) -> i64 {
        self.time + self.wrong_by
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_second(self.clock()).unwrap()
    }

    /// A snapshot that is taken now.
    pub(super) fn shot(&self, of_production: bool) -> Shot {
        let server = if of_production { &self.production } else { &self.staging };
        Shot {
            of_production,
            clock: self.clock(),
            time: self.time,
            version: server.version,
            data: server.data,
            keys_fit: server.keys_fit,
            flaw: None,
            pinned: false,
        }
    }

    /// Time passes, and users write wherever they can. Belay is there, and renews the lease.
    pub(super) fn pass(&mut self, seconds: i64) {
        self.time += seconds.max(0);
        for server in [&mut self.staging, &mut self.production] {
            if server.writers && !server.half {
                server.data += 1;
            }
        }
    }

    /// The same without Belay.
    pub(super) fn pass_alone(&mut self, seconds: i64) {
        let timer_fires = self.production.armed && seconds > LEASE;
        if timer_fires {
            self.production.writers = true;
            self.production.armed = false;
            self.production.stopped_since = None;
        }
        self.pass(seconds);
    }

    pub(super) fn set_clock(&mut self, wrong_by: i64) {
        self.wrong_by = wrong_by;
        self.clock_set = self.time;
    }

    /// From one to five in the morning, each day.
    pub(super) fn window(&self) -> (bool, i64) {
        let clock = self.clock();
        let of_day = clock.rem_euclid(DAY);
        let opens = clock - of_day + HOUR;
        let is_open = (HOUR..5 * HOUR).contains(&of_day);
        (is_open, if opens > clock { opens } else { opens + DAY })
    }
}

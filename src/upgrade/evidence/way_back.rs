//! What the way back of each instance needs: copies of its volumes where its databases are in its own container, and otherwise room for a
//! restore beside what is there.

use super::{Copies, Gathering, Question, Scene};
use crate::config::Instance;
use crate::model::upgrade::{Environment, Gate, RuleName, VolumeCopy};
use crate::ops::newest::Newest;
use crate::ops::room::{self, RoomNeeded};
use crate::ops::volumes::{self, CopyState, Own, Shelf, Volume};
use crate::ops::{Context, OpsError};
use crate::upgrade::driver::Driver;
use crate::upgrade::rules::Room;

/// What was found.
#[derive(Default)]
pub(super) struct WayBack {
    pub(super) room: Vec<Room>,
    pub(super) said: Vec<String>,
    /// Whether production's volumes can be copied aside.
    pub(super) copies_volumes: bool,
}

/// How an instance would come back.
enum Way {
    /// By copies, for which there is room or should be.
    Copies(Vec<Volume>),
    /// By copies that are there already.
    Made,
    /// Out of its snapshot. Why not by copies, where that is worth a word.
    Restore(Option<String>),
}

/// Look at what needs room. Once staging has gone first, only production may still have to go back.
pub(super) fn look(
    scene: &Scene<'_>,
    sides: [(Environment, &Instance); 2],
    newest: &[Option<Newest>; 2],
    question: &Question<'_>,
    gathering: &mut Gathering,
) -> Result<WayBack, OpsError> {
    let mut found = WayBack::default();
    for (number, side) in sides.into_iter().enumerate() {
        let (environment, instance) = side;
        if question.gate != Gate::Staging && environment == Environment::Staging {
            continue;
        }
        let rules = [RuleName::Room];
        let copies = match environment {
            Environment::Staging => Copies::Open,
            Environment::Production => question.copies,
        };
        let what = "what its way back needs";
        let way = gathering.tried(Some(environment), &rules, what, way(scene, side, copies))?;
        let needed = match way {
            None => Vec::new(),
            Some(Way::Copies(volumes)) => {
                found.copies_volumes |= environment == Environment::Production;
                volumes::room(&volumes)
            }
            Some(Way::Made) => {
                found.said.push(format!(
                    "{environment}: its way back is a copy of its volumes, which is there"
                ));
                Vec::new()
            }
            Some(Way::Restore(why)) => {
                found.said.extend(why.map(|why| {
                    format!("{environment}: its way back is a restore of its snapshot, as its volumes cannot be copied aside: {why}")
                }));
                let manifest = newest[number].as_ref().and_then(|newest| newest.manifest.as_ref());
                let (config, secrets, context) = (scene.config, scene.secrets, scene.context);
                let found = room::of_instance(config, secrets, instance, manifest, context);
                let what = "the room that a restore needs";
                gathering.tried(Some(environment), &rules, what, found)?.unwrap_or_default()
            }
        };
        found.room.extend(needed.into_iter().map(|needed| of(environment, needed)));
    }
    Ok(found)
}

fn of(environment: Environment, needed: RoomNeeded) -> Room {
    let RoomNeeded { what, place, needed_bytes, free_bytes } = needed;
    Room { environment, what, place, needed_bytes, free_bytes }
}

fn way(
    scene: &Scene<'_>,
    side: (Environment, &Instance),
    copies: Copies<'_>,
) -> Result<Way, OpsError> {
    let (_, instance) = side;
    match copies {
        Copies::Planned(false) => return Ok(Way::Restore(None)),
        Copies::Made(copies) => return made(scene, instance, copies).map(|()| Way::Made),
        Copies::Open | Copies::Planned(true) => {}
    }
    let can = can_be_copied(scene, instance)?;
    Ok(match can {
        Can::Elsewhere => Way::Restore(None),
        Can::Not(why) if copies == Copies::Planned(true) => {
            return Err(OpsError::refused(
                format!("the plan has a copy of its volumes, which cannot be made any more: {why}"),
                "see to that, or abort the upgrade and plan another one",
            ));
        }
        Can::Not(why) => Way::Restore(Some(why)),
        Can::Be(volumes) if copies == Copies::Open && !volumes::fits(&volumes) => {
            Way::Restore(Some(no_room(&volumes)))
        }
        Can::Be(volumes) => Way::Copies(volumes),
    })
}

fn no_room(volumes: &[Volume]) -> String {
    let rooms = volumes::room(volumes);
    let told = rooms.iter().map(|RoomNeeded { place, needed_bytes, free_bytes, .. }| {
        let bytes = crate::model::size::Bytes;
        let (needed, free) = (bytes(*needed_bytes), bytes(free_bytes.unwrap_or_default()));
        format!("that needs {needed} in {place}, where {free} are free")
    });
    told.collect::<Vec<_>>().join("; ")
}

fn made(scene: &Scene<'_>, instance: &Instance, copies: &[VolumeCopy]) -> Result<(), OpsError> {
    let shelf = Shelf::of(scene.config, instance, scene.context);
    for copy in copies {
        let state = shelf.as_ref().map(|shelf| shelf.state(copy)).transpose()?;
        if state != Some(CopyState::Copied) {
            return Err(OpsError::refused(
                format!("the copy {} of its volumes is not there any more", copy.copy),
                "see who has removed it",
            ));
        }
    }
    Ok(())
}

/// Whether the volumes of an instance can be copied aside.
pub(in crate::upgrade) enum Can {
    /// Its databases are not in its own container.
    Elsewhere,
    /// They are, and it cannot be done: why.
    Not(String),
    /// They can, where there is room.
    Be(Vec<Volume>),
}

/// The same, of one that runs.
pub(in crate::upgrade) fn can_be_copied(
    scene: &Scene<'_>,
    instance: &Instance,
) -> Result<Can, OpsError> {
    let context = Context::new(scene.context.events.clone(), scene.context.cancel.clone());
    Ok(match volumes::look(scene.config, instance, &context)? {
        Own::Elsewhere => Can::Elsewhere,
        Own::Fixed(why) => Can::Not(why),
        Own::Volumes(volumes) => {
            let driver = Driver::of(scene.config, scene.upgrades, instance, scene.context);
            let can_stop = driver.is_ok_and(|driver| driver.can_stop());
            if can_stop {
                Can::Be(volumes)
            } else {
                Can::Not("nothing says how its container is stopped: add stop = \"/PATH\" and start = \"/PATH\" to driver = { command = … }".into())
            }
        }
    })
}

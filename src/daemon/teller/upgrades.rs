//! Telling of upgrades: where one has come to rest, how a provisional production does, and versions that Belay did not install.

use super::{Only, Teller, of_host};
use crate::catalog::{CatalogError, Delivery, Handled, ProblemChange};
use crate::model::event::Event;
use crate::model::id::JobId;
use crate::model::name::Name;
use crate::model::notice::{Notice, NoticeKind};
use crate::ops::status::schedule_subject;
use crate::upgrade::machine::Upgrade;
use crate::upgrade::told::Told;

fn health_key(pair: &Name) -> String {
    format!("unhealthy/{pair}")
}

impl Teller {
    /// What tells where an upgrade has come to rest. Whoever puts it down says [`Self::wake`].
    #[must_use]
    pub(in crate::daemon) fn of_upgrade(&self, production: &Name, told: &Told) -> Vec<Delivery> {
        let Told { title, body, hint, .. } = told.clone();
        let instance = Some(production.clone());
        self.deliveries(&Notice { instance, body, hint, ..of_host(NoticeKind::Upgrade, title) })
    }

    /// A provisional production does well, or not: told when that changes, and once a day while it does not.
    pub(in crate::daemon) fn health(&self, upgrade: &Upgrade, ails: Option<&str>) {
        let (plan, hop) = (upgrade.plan(), upgrade.hop());
        let pair = &plan.pair;
        let notice = match ails {
            Some(why) => Notice {
                body: format!("Its test of health finds: {why}."),
                hint: Some(format!(
                    "belay upgrade rollback {pair} brings {} back; what users did since {} is not in it then",
                    hop.from,
                    upgrade.journal().changed_at().strftime("%Y-%m-%d %H:%M UTC"),
                )),
                ..of_host(
                    NoticeKind::Upgrade,
                    format!("Production of {pair} is not well with {}", hop.to),
                )
            },
            None => of_host(
                NoticeKind::Recovery,
                format!("Production of {pair} is well again with {}", hop.to),
            ),
        };
        let notice = Notice { instance: Some(plan.production.name.clone()), ..notice };
        self.lasting(&health_key(pair), ails.is_some(), notice, Only::Always);
    }

    /// Production of a pair is not watched any more: nothing is told of its health.
    pub(in crate::daemon) fn forget_health(&self, pair: &Name) -> Result<(), CatalogError> {
        let key = health_key(pair);
        let _telling = self.telling();
        if self.problem(&key)?.is_some() {
            self.catalog().change_problem(ProblemChange::Clear(&key))?;
        }
        Ok(())
    }

    /// An instance runs another version, which Belay did not install. Told once for each change, also where the backup that found it
    /// fails and the next one finds it again.
    pub(in crate::daemon) fn version_changed(&self, job: JobId, event: &Event) {
        let Event::VersionChanged { instance, from, to, last_good } = event else { return };
        let subject = schedule_subject("version-changed", instance);
        let pinned = last_good.map(|id| id.to_string()).unwrap_or_default();
        let mark = format!("{from} {to} {pinned}");
        let _telling = self.telling();
        let known = match self.catalog().handled(&subject) {
            Ok(known) => known,
            Err(error) => {
                tracing::error!("what was told of {instance}'s version is not known: {error}");
                None
            }
        };
        if known.as_ref().is_some_and(|known| known.pattern == mark) {
            return;
        }
        let (body, hint) = match last_good {
            Some(id) => (
                format!("The last good snapshot of {from}, {}, is pinned.", id.short()),
                format!("find out who did that; belay restore {} brings the data back", id.short()),
            ),
            None => (
                format!("There is no good snapshot of {from}."),
                "find out who did that, and see that it is well: belay doctor".to_owned(),
            ),
        };
        let title = format!("{instance} runs {to}, which Belay did not install: it was {from}");
        let notice = Notice {
            instance: Some(instance.clone()),
            job: Some(job),
            body,
            hint: Some(hint),
            ..of_host(NoticeKind::VersionChanged, title)
        };
        let known_since = known.map_or(notice.at, |known| known.known_since);
        let handled = Handled { known_since, at: notice.at, pattern: mark, detail: None };
        let deliveries = self.deliveries(&notice);
        let stored = self.catalog().put_scheduled(&subject, &handled, None, &deliveries);
        if let Err(error) = stored {
            tracing::error!("what was told of {instance}'s version could not be recorded: {error}");
            self.tell(deliveries);
        }
        self.wake();
    }
}

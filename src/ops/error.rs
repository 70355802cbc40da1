//! What can go wrong in an operation, with what to do about it.

use crate::access::AccessError;
use crate::catalog::CatalogError;
use crate::component::files::create::CreateError;
use crate::component::files::remote::RemoteError;
use crate::component::files::stream::StreamError;
use crate::component::files::swap::SwapError;
use crate::component::files::walk::WalkError;
use crate::component::mongodb::MongoError;
use crate::component::postgres::PostgresError;
use crate::component::redis::RedisError;
use crate::config::{ConfigError, LocationError, SecretError, UnknownName};
use crate::git::error::GitError;
use crate::model::event::Cancelled;
use crate::model::name::Name;
use crate::ops::backup::import::ImportError;
use crate::platform::http::HttpError;
use crate::repository::RepositoryError;
use std::io;
use std::path::PathBuf;

/// A failure of an operation.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A name that the configuration does not have.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// The address of a repository.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// A secret that the configuration refers to.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Reading a component.
    #[error("component {component} of {instance} could not be read: {source}")]
    Component {
        /// The instance.
        instance: String,
        /// Its component.
        component: String,
        /// Why.
        source: WalkError<RepositoryError>,
    },
    /// Putting a directory back where the instance lives.
    #[error("{path} of {instance} could not be put back: {source}")]
    PutBack {
        /// The instance.
        instance: String,
        /// The directory.
        path: String,
        /// Why.
        source: Box<RemoteError>,
    },
    /// Reading a component where the instance lives.
    #[error("component {component} of {instance} could not be read: {source}")]
    Stream {
        /// The instance.
        instance: String,
        /// Its component.
        component: String,
        /// Why.
        source: Box<StreamError<RepositoryError>>,
    },
    /// The way to where an instance lives.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The component `postgres`.
    #[error("component postgres of {instance}: {source}")]
    Postgres {
        /// The instance.
        instance: String,
        /// What went wrong.
        source: PostgresError,
    },
    /// The component `mongodb`.
    #[error("component mongodb of {instance}: {source}")]
    Mongodb {
        /// The instance.
        instance: String,
        /// What went wrong.
        source: MongoError,
    },
    /// The component `redis`.
    #[error("component redis of {instance}: {source}")]
    Redis {
        /// The instance.
        instance: String,
        /// What went wrong.
        source: RedisError,
    },
    /// A git repository.
    #[error("git repository {name}: {message}")]
    Git {
        /// Its name in the configuration.
        name: String,
        /// What went wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
        /// Whether it may go better later without anybody doing anything.
        may_pass: bool,
    },
    /// Importing a file.
    #[error("{file} was not imported: {source}", file = file.display())]
    Import {
        /// Which file.
        file: PathBuf,
        /// Why not.
        source: ImportError,
    },
    /// Writing restored files.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// Swapping a restored tree in.
    #[error(transparent)]
    Swap(#[from] SwapError),
    /// A file outside repositories and components.
    #[error("could not {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// What was asked for makes no sense, or is not configured.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The HTTP interface of an instance.
    #[error("{instance}: {source}")]
    Http {
        /// The instance.
        instance: String,
        /// What went wrong.
        source: HttpError,
    },
    /// A rule that protects an instance says no.
    #[error("{message}")]
    Gate {
        /// Which, and why.
        message: String,
        /// What would make it pass.
        hint: Option<String>,
    },
    /// What was asked for would do harm.
    #[error("{message}")]
    Refused {
        /// Why not.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// Another job works on the instance.
    #[error("instance {instance} is busy: process {pid} works on it")]
    Busy {
        /// The instance.
        instance: String,
        /// Who holds it.
        pid: String,
    },
    /// A file of a snapshot is not of the kind that was expected.
    #[error("{object} is not what was expected: {reason}")]
    WrongFile {
        /// Which file.
        object: String,
        /// Why.
        reason: String,
    },
}

impl From<Cancelled> for OpsError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Repository(cancelled.into())
    }
}

impl OpsError {
    /// A usage error with a hint.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: Some(hint.into()) }
    }

    /// A refusal with a hint.
    pub(crate) fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), hint: Some(hint.into()) }
    }

    /// A failure of a git repository's mirror.
    pub(crate) fn git(name: &Name, error: &GitError) -> Self {
        let (message, hint) = (error.to_string(), error.hint());
        Self::Git { name: name.to_string(), message, hint, may_pass: false }
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        if let Self::Postgres { source, .. } = self {
            return source.is_cancelled();
        }
        if let Self::Mongodb { source, .. } = self {
            return source.is_cancelled();
        }
        if let Self::PutBack { source, .. } = self
            && let RemoteError::Access(error) = &**source
        {
            return matches!(error, AccessError::Cancelled(_));
        }
        if let Self::Redis { source, .. } = self {
            return source.is_cancelled();
        }
        if let Self::Stream { source, .. } = self {
            return source.is_cancelled()
                || matches!(**source, StreamError::Sink(RepositoryError::Cancelled(_)));
        }
        matches!(
            self,
            Self::Repository(RepositoryError::Cancelled(_))
                | Self::Access(AccessError::Cancelled(_))
                | Self::Import { source: ImportError::Cancelled(_), .. }
                | Self::Component {
                    source: WalkError::Cancelled(_)
                        | WalkError::Sink(RepositoryError::Cancelled(_)),
                    ..
                }
        )
    }

    /// Whether the repository was full.
    pub fn is_no_room(&self) -> bool {
        match self {
            Self::Repository(RepositoryError::Store(error))
            | Self::Component { source: WalkError::Sink(RepositoryError::Store(error)), .. } => {
                error.is_full()
            }
            Self::Stream { source, .. } => {
                matches!(&**source, StreamError::Sink(RepositoryError::Store(error)) if error.is_full())
            }
            _ => false,
        }
    }

    /// Whether the same may go well when it is tried again later, without anybody doing anything about it.
    pub fn may_pass(&self) -> bool {
        let lasts = match self {
            Self::Config(_)
            | Self::Unknown(_)
            | Self::Location(_)
            | Self::Secret(_)
            | Self::Usage { .. }
            | Self::Refused { .. }
            | Self::Gate { .. }
            | Self::WrongFile { .. }
            | Self::Import { .. } => true,
            Self::Git { may_pass, .. } => !may_pass,
            Self::Repository(error) => {
                error.is_damage()
                    || matches!(
                        error,
                        RepositoryError::WrongPassword { .. } | RepositoryError::NotFound { .. }
                    )
            }
            _ => false,
        };
        !lasts && !self.is_cancelled() && !self.is_no_room()
    }

    /// What to do next, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. }
            | Self::Refused { hint, .. }
            | Self::Gate { hint, .. }
            | Self::Git { hint, .. } => hint.clone(),
            Self::Http { source, .. } => Some(source.hint().into()),
            Self::Repository(error) | Self::Component { source: WalkError::Sink(error), .. } => {
                error.hint().map(Into::into)
            }
            Self::Access(error) => error.hint(),
            Self::PutBack { source, .. } => source.hint(),
            Self::Stream { source, .. } => match &**source {
                StreamError::Sink(error) => error.hint().map(Into::into),
                other => other.hint(),
            },
            Self::Postgres { source, .. } => source.hint(),
            Self::Mongodb { source, .. } => source.hint(),
            Self::Redis { source, .. } => source.hint(),
            Self::Config(error) => error.hint().map(Into::into),
            Self::Secret(error) => error.hint(),
            Self::Location(error) => error.hint().map(Into::into),
            Self::Unknown(error) => Some(error.hint.clone()),
            Self::Create(error) => error.hint().map(Into::into),
            Self::Component { source, .. } => source.hint().map(Into::into),
            Self::Catalog(error) => error.hint().map(Into::into),
            Self::Busy { .. } => {
                Some("wait until it is done, or look at it with `belay status`".into())
            }
            Self::WrongFile { .. } => {
                Some("run `belay check --read-data` to see what is damaged".into())
            }
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::AlreadyExists => Some("choose another name, or move it away".into()),
                io::ErrorKind::StorageFull => Some("make room there and run it again".into()),
                io::ErrorKind::PermissionDenied => {
                    Some("run it as a user who may do that there, or choose another place".into())
                }
                io::ErrorKind::ReadOnlyFilesystem => Some(
                    "its file system is mounted read-only: choose another place, or see why".into(),
                ),
                _ => None,
            },
            Self::Import { source, .. } => source.hint().map(Into::into),
            Self::Swap(_) => None,
        }
    }

    /// The whole story in one text: the error with its reasons behind it.
    pub fn told(&self) -> String {
        if self.is_cancelled() {
            return Cancelled.to_string();
        }
        Self::told_of(self)
    }

    /// The same of any error.
    pub fn told_of(error: &dyn std::error::Error) -> String {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(reason) = source {
            let text = reason.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            source = reason.source();
        }
        message
    }
}

/// A hint as a further sentence; nothing where there is none.
pub fn what_to_do(hint: Option<&str>) -> String {
    match hint {
        None => String::new(),
        Some(question) if question.ends_with('?') => format!(" What to do: {question}"),
        Some(hint) => format!(" What to do: {hint}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_a_sentence_with_one_end() {
        assert_eq!(what_to_do(None), "");
        assert_eq!(what_to_do(Some("run it")), " What to do: run it.");
        assert_eq!(what_to_do(Some("is it there?")), " What to do: is it there?");
    }

    #[test]
    fn a_configuration_that_is_not_there_comes_with_what_to_do() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        let error = OpsError::from(ConfigError::Read { path: "/etc/x.toml".into(), source });
        assert!(error.hint().is_some_and(|hint| hint.contains("--config FILE")), "{error:?}");
        assert_eq!(
            error.told(),
            "the configuration /etc/x.toml could not be read: entity not found"
        );
    }

    #[test]
    fn an_interrupted_component_was_interrupted_and_is_not_unreadable() {
        let error = OpsError::Component {
            instance: "data".into(),
            component: "files".into(),
            source: WalkError::Cancelled(Cancelled),
        };
        assert_eq!(error.told(), "interrupted");
    }

    #[test]
    fn what_somebody_stopped_does_not_pass_by_itself() {
        let stopped = OpsError::from(RepositoryError::Cancelled(Cancelled));
        assert!(stopped.is_cancelled() && !stopped.may_pass());
        let other = OpsError::from(RepositoryError::Internal("it failed".into()));
        assert!(other.may_pass());
    }
}

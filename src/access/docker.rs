//! What Docker knows of a container: what its process really got for an environment, its image, its mounts, and where
//! its compose file is.

use super::{Access, AccessError, Command};
use serde::Deserialize;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// More than this is no answer to `docker inspect`.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// What was found of a container.
pub struct ContainerFacts {
    /// The answer of `docker inspect`, as it was. It holds secrets.
    pub document: Zeroizing<Vec<u8>>,
    /// The variables that the container was started with: `NAME=value`.
    pub environment: Vec<Zeroizing<String>>,
    /// The image as it is named, such as `tooljet/tooljet:v3.16.12`.
    pub image: String,
    /// The image's own digest, `sha256:…`.
    pub image_id: String,
    /// What is mounted in it.
    pub mounts: Vec<Mount>,
    /// Its labels; `com.docker.compose.*` among them.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs, or is about to be started again by its engine.
    pub is_running: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    image: String,
    config: Configured,
    #[serde(default)]
    mounts: Vec<Mount>,
    state: ContainerState,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerState {
    running: bool,
}

/// Something that is mounted in a container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mount {
    /// `bind`, `volume` or `tmpfs`.
    #[serde(default, rename = "Type")]
    pub kind: String,
    /// Where it is on the engine's host; empty where it is nowhere there.
    #[serde(default)]
    pub source: String,
    /// Where it is in the container.
    pub destination: String,
    /// Whether the container may write to it.
    #[serde(default, rename = "RW")]
    pub is_writable: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configured {
    env: Option<Vec<String>>,
    image: String,
    labels: Option<BTreeMap<String, String>>,
}

impl Access {
    /// What is known of the container that the last hop leads into; none where it leads into none.
    pub fn container_facts(&self) -> Result<Option<ContainerFacts>, AccessError> {
        let Some((engine, container)) = self.via.container() else { return Ok(None) };
        let command =
            Command::new("docker").arguments(["inspect", "--type", "container", container]);
        let engine = self.to(engine);
        let document = engine.run(&command, &[], MOST_BYTES)?;
        let strange = |reason: String| AccessError::Strange {
            program: "docker".into(),
            via: engine.via.clone(),
            reason,
        };
        // The error itself could quote the document.
        let inspected: Vec<Inspected> = serde_json::from_slice(&document).map_err(|error| {
            strange(format!("no description of a container (line {})", error.line()))
        })?;
        let [one] = <[Inspected; 1]>::try_from(inspected)
            .map_err(|all| strange(format!("{} containers instead of one", all.len())))?;
        Ok(Some(ContainerFacts {
            document,
            environment: one
                .config
                .env
                .unwrap_or_default()
                .into_iter()
                .map(Zeroizing::new)
                .collect(),
            image: one.config.image,
            image_id: one.image,
            mounts: one.mounts,
            labels: one.config.labels.unwrap_or_default(),
            is_running: one.state.running,
        }))
    }
}

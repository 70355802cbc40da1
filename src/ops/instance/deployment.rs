//! The files that a container was made from: those that Docker Compose noted in its labels, where they are still there.

use super::Living;
use crate::access::AccessError;
use crate::model::event::Events;
use crate::ops::OpsError;
use zeroize::Zeroizing;

/// A file of more bytes is no compose file.
const MOST_BYTES: u64 = 1024 * 1024;

/// Where Compose notes which files it read, and where.
const FILES: &str = "com.docker.compose.project.config_files";
const DIRECTORY: &str = "com.docker.compose.project.working_dir";

/// A file by the name that it has in the snapshot.
pub(in crate::ops) type DeploymentFile = (String, Zeroizing<Vec<u8>>);

impl Living<'_> {
    /// The compose files of its container, and their `.env`. One that is not there any more is told.
    pub(in crate::ops) fn compose_files(
        &self,
        events: &Events,
    ) -> Result<Vec<DeploymentFile>, OpsError> {
        let (Some(container), Some((engine, _))) = (&self.container, self.access.via().container())
        else {
            return Ok(Vec::new());
        };
        let engine = self.access.to(engine);
        let label = |name: &str| container.labels.get(name).map(String::as_str);
        let directory = label(DIRECTORY);
        let paths = label(FILES).into_iter().flat_map(|files| files.split(','));
        let mut paths: Vec<(String, bool)> = paths
            .map(|path| match directory {
                Some(directory) if !path.starts_with('/') => format!("{directory}/{path}"),
                _ => path.to_owned(),
            })
            .map(|path| (path, true))
            .collect();
        // Many projects have none.
        paths.extend(directory.map(|directory| (format!("{directory}/.env"), false)));
        let mut files: Vec<DeploymentFile> = Vec::new();
        for (path, is_expected) in paths.into_iter().filter(|(path, _)| path.starts_with('/')) {
            match engine.read_file(&path, MOST_BYTES) {
                Ok(content) => files.push((free_name(&files, &path), content)),
                Err(error @ AccessError::Cancelled(_)) => return Err(error.into()),
                Err(error) if is_expected => {
                    events
                        .warn(format!("The compose file {path} is not in the snapshot: {error}."));
                }
                Err(_) => {}
            }
        }
        Ok(files)
    }
}

/// The last part of a path, as no other file here is called.
fn free_name(files: &[DeploymentFile], path: &str) -> String {
    let base = path.rsplit('/').next().unwrap_or(path);
    // What the snapshot has of the container itself has these names.
    let taken = |name: &str| {
        ["container.json", "environment"].contains(&name)
            || files.iter().any(|(other, _)| other == name)
    };
    let numbered = (2_u32..).map(|number| format!("{number}-{base}"));
    std::iter::once(base.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_name_get_different_ones() {
        let mut files: Vec<DeploymentFile> = Vec::new();
        for path in ["/a/compose.yml", "/b/compose.yml", "/a/environment"] {
            files.push((free_name(&files, path), Zeroizing::default()));
        }
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["compose.yml", "2-compose.yml", "2-environment"]);
    }
}

//! The data directory before anything opens it: made if missing, and if it cannot be used, one
//! sentence on who lacks what.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, access},
    process::{getegid, geteuid},
};

use crate::exit::{Exit, Failure};

/// What the broker written in Java leaves in its store directory.
const FOREIGN: [&str; 2] = ["commitlog", "consumequeue"];

/// Makes the directory and checks that this process may write in it.
///
/// Errors: exit 73 with owner, mode and the command that helps; 76 when another broker lives there.
pub(crate) fn prepare(path: &Path) -> Result<(), Failure> {
    let usable = fs::create_dir_all(path)
        .and_then(|()| access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from));
    usable.map_err(|error| unusable(path, &error))?;
    match FOREIGN.iter().find(|name| path.join(name).exists()) {
        Some(name) => Err(Failure::new(
            Exit::NewerData,
            format!("{} holds {name}: it was written by another broker", path.display()),
        )
        .hint("choose another directory with --data-dir")),
        None => Ok(()),
    }
}

/// Says why the directory cannot be used.
pub(crate) fn unusable(path: &Path, error: &io::Error) -> Failure {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let mut cause = format!(
        "data directory {} cannot be created or written: {error}; this process runs as uid {uid} gid {gid}",
        path.display()
    );
    let existing = nearest_existing(path);
    let hint = match existing.as_ref().and_then(|existing| Some((existing, fs::metadata(existing).ok()?))) {
        Some((existing, found)) => {
            let shown = existing.display();
            let kind = if found.is_dir() { "directory" } else { "file" };
            let mode = found.mode() & 0o7777;
            cause +=
                &format!("; the {kind} {shown} belongs to uid {} gid {}, mode {mode:04o}", found.uid(), found.gid());
            match error.kind() {
                io::ErrorKind::PermissionDenied => format!("chown -R {uid}:{gid} {shown}"),
                io::ErrorKind::ReadOnlyFilesystem => {
                    "mount the file system writable or choose another --data-dir".to_owned()
                }
                _ => "choose another directory with --data-dir".to_owned(),
            }
        }
        None => "choose another directory with --data-dir".to_owned(),
    };
    Failure::new(Exit::DataDirectory, cause).hint(hint)
}

fn nearest_existing(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|ancestor| ancestor.exists()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_directory_is_made() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("a/b");
        prepare(&path).expect("made");
        assert!(path.is_dir());
    }

    #[test]
    fn the_directory_of_another_broker_is_left_alone() {
        let store = tempfile::tempdir().expect("a directory");
        fs::create_dir(store.path().join("commitlog")).expect("made");
        assert_eq!(prepare(store.path()).expect_err("not ours").exit, Exit::NewerData);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let parent = tempfile::tempdir().expect("a directory");
        let file = parent.path().join("file");
        fs::write(&file, "").expect("written");
        let failure = prepare(&file.join("data")).expect_err("a file is no directory");
        assert_eq!(failure.exit, Exit::DataDirectory);
        assert!(failure.cause.contains(&format!("the file {} belongs to uid", file.display())), "{}", failure.cause);
    }
}

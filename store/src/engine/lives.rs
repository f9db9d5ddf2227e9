//! Whether a start may be without what the store before it had confirmed. A store that syncs later
//! than it answers leaves a note of the machine's boot for as long as it runs: a process that ends
//! alone leaves everything it wrote to the machine, but a machine that ends takes with it what was
//! not synced.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::config::Flush;

const NOTE: &str = "unsynced";
/// Changes with every boot of a Linux machine; elsewhere there is none, and boots are not told apart.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Whether the store that last had this directory may have confirmed more than is here now.
pub fn may_have_lost(data_dir: &Path) -> io::Result<bool> {
    match fs::read(path(data_dir)) {
        Ok(noted) => Ok(boot().is_none_or(|boot| noted.trim_ascii() != boot.as_bytes())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Notes, before anything is confirmed, how far a store may be trusted that flushes like this.
pub fn begin(data_dir: &Path, flush: Flush) -> io::Result<()> {
    if flush != Flush::Async {
        return end(data_dir);
    }
    write(data_dir, boot().as_deref().unwrap_or("unknown"))
}

/// Notes that the machine itself did not keep what it was given: a sync failed.
pub fn distrust(data_dir: &Path) -> io::Result<()> {
    write(data_dir, "sync failed")
}

/// Notes that everything is synced.
pub fn end(data_dir: &Path) -> io::Result<()> {
    match fs::remove_file(path(data_dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        // A removal that is lost makes the next start more careful than it has to be.
        _ => Ok(()),
    }
}

fn write(data_dir: &Path, note: &str) -> io::Result<()> {
    let temporary = path(data_dir).with_extension("tmp");
    let mut file = File::create(&temporary)?;
    writeln!(file, "{note}")?;
    file.sync_all()?;
    fs::rename(&temporary, path(data_dir))?;
    File::open(data_dir)?.sync_all()
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(NOTE)
}

fn boot() -> Option<String> {
    fs::read_to_string(BOOT).ok().map(|id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_machine_that_ended_under_a_late_store_took_something() {
        let dir = tempfile::tempdir().expect("a folder");
        let lost = || may_have_lost(dir.path()).expect("read");
        assert!(!lost(), "a new directory");
        begin(dir.path(), Flush::Async).expect("noted");
        assert!(!lost(), "the process ended, the machine did not");
        fs::write(path(dir.path()), "another boot\n").expect("written");
        assert!(lost());
        end(dir.path()).expect("noted");
        assert!(!lost(), "it ended in order");
        begin(dir.path(), Flush::Async).expect("noted");
        distrust(dir.path()).expect("noted");
        assert!(lost(), "in the same boot");
        begin(dir.path(), Flush::Sync).expect("noted");
        assert!(!lost(), "what is confirmed is synced");
    }
}

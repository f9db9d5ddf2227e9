//! The file that tells tests and commands which ports were chosen: `run/ports.json` in the data
//! directory, there while the server runs.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process,
};

use serde_json::json;

/// The file; removed when this is dropped.
#[derive(Debug)]
pub(crate) struct PortsFile(PathBuf);

impl PortsFile {
    /// Writes `pid`, `clients` and `operators` (ports) and their addresses, all at once.
    pub(crate) fn write(data_dir: &Path, clients: SocketAddr, operators: SocketAddr) -> io::Result<Self> {
        let folder = data_dir.join("run");
        fs::create_dir_all(&folder)?;
        let content = json!({
            "pid": process::id(),
            "clients": clients.port(),
            "operators": operators.port(),
            "clients_address": clients,
            "operators_address": operators,
        });
        let (unfinished, path) = (folder.join("ports.json.new"), folder.join("ports.json"));
        fs::write(&unfinished, format!("{content}\n"))?;
        fs::rename(unfinished, &path)?;
        Ok(Self(path))
    }
}

impl Drop for PortsFile {
    fn drop(&mut self) {
        // Nobody reads it for longer than its pid lives; a file left behind does no harm.
        let _ = fs::remove_file(&self.0);
    }
}

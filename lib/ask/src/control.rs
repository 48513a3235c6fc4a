//! The control sockets of this host: `PROGRAM.PID.sock` in one directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most control sockets taken from a directory; no host runs as many daemons.
const CONTROLS_MAX: usize = 1000;

/// A daemon's control socket. It may be dead: ask it, and see [`crate::Unavailable::is_dead`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Control {
    /// The daemon's name, as `postfix-maps`.
    pub program: String,
    /// Its process.
    pub pid: u32,
    /// The socket.
    pub path: PathBuf,
}

impl Control {
    /// The control sockets in `directory`, by program and process; no directory is none.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn find_all(directory: &Path) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries.take(CONTROLS_MAX) {
            found.extend(Self::parse(&entry?.path()));
        }
        found.sort();
        Ok(found)
    }

    /// The file name of a daemon's control socket.
    pub fn file_name(program: &str, pid: u32) -> String {
        format!("{program}.{pid}.sock")
    }

    fn parse(path: &Path) -> Option<Self> {
        let (program, pid) = path.file_name()?.to_str()?.strip_suffix(".sock")?.rsplit_once('.')?;
        Some(Self { program: program.to_owned(), pid: pid.parse().ok()?, path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sockets_are_found_by_name_and_others_left_alone() {
        let _turn = crate::tests::turn();
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["policyd.17.sock", "postfix-maps.9.sock", &Control::file_name("policyd", 8), "x.sock", "y.1.db", "z"]
        {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let found = Control::find_all(dir.path()).unwrap();
        let names: Vec<_> = found.iter().map(|c| (c.program.as_str(), c.pid)).collect();
        assert_eq!(names, [("policyd", 8), ("policyd", 17), ("postfix-maps", 9)]);
        assert_eq!(found[0].path, dir.path().join("policyd.8.sock"));
        assert_eq!(Control::find_all(&dir.path().join("absent")).unwrap(), []);
    }
}

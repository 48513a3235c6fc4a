//! Cleans up after a test process that ended without running its drops.
//!
//! A test that is killed, that aborts, or that keeps a fixture in a `static` never drops it. So the first fixture starts
//! one small shell that reads from a pipe what exists; the pipe closes when the test process ends, however it ends, and
//! the shell then kills what is left and removes its folders.
//!
//! Lines: `+s SID` a session was started, `-s SID` it is gone; `+p PATH` a file or folder was made, `-p PATH` it is gone.
//! The shell is a session of its own, so Ctrl-C in a terminal does not reach it.

use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use crate::ffi;

/// Reads the fields of /proc/PID/stat behind the last `)`: the command name may hold anything.
const SCRIPT: &str = r#"
declare -A sessions paths
while read -r op what; do
  case $op in
    +s) sessions[$what]=1 ;;
    -s) unset "sessions[$what]" ;;
    +p) paths[$what]=1 ;;
    -p) unset "paths[$what]" ;;
  esac
done
for round in 1 2 3; do
  found=0
  for file in /proc/[0-9]*/stat; do
    { read -r line <"$file"; } 2>/dev/null || continue
    set -- ${line##*) }
    if [[ $1 != Z && -n ${sessions[$4]:-} ]]; then
      pid=${file#/proc/}; kill -KILL "${pid%/stat}" 2>/dev/null; found=1
    fi
  done
  [[ $found = 0 ]] && break
  sleep 0.05
done
for path in "${!paths[@]}"; do rm -rf -- "$path"; done
"#;

fn pipe() -> &'static Mutex<Option<ChildStdin>> {
    static PIPE: OnceLock<Mutex<Option<ChildStdin>>> = OnceLock::new();
    PIPE.get_or_init(|| {
        let mut command = Command::new("bash");
        command.args(["-c", SCRIPT, "mailsql-rig-keeper"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.current_dir("/");
        ffi::in_new_session(&mut command);
        // Without a keeper the drops still clean up; only a killed test would leave something behind.
        Mutex::new(command.spawn().ok().and_then(|mut child| child.stdin.take()))
    })
}

fn tell(line: &str) {
    let mut guard = pipe().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(stdin) = guard.as_mut() {
        let _ = stdin.write_all(line.as_bytes());
    }
}

/// A session was started: kill it should this process end first.
pub fn session_started(session: i32) {
    tell(&format!("+s {session}\n"));
}

/// A session is gone: its number may be somebody else's from now on.
pub fn session_ended(session: i32) {
    tell(&format!("-s {session}\n"));
}

/// A file or folder was made: remove it should this process end first.
pub fn path_made(path: &Path) {
    tell(&format!("+p {}\n", path.display()));
}

/// A file or folder is gone.
pub fn path_removed(path: &Path) {
    tell(&format!("-p {}\n", path.display()));
}

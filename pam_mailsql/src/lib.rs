//! PAM module on the mailsql account database, a drop-in for pam_mysql.
//!
//! ```text
//! auth    required pam_mailsql.so                                     asks the daemon at /run/mailsql/ask.sock
//! auth    required pam_mailsql.so socket=/path timeout=3s             the same, elsewhere
//! auth    required pam_mailsql.so user=mail passwd=… host=127.0.0.1 db=mail table=emails usercolumn=name
//!                                 passwdcolumn=password crypt=1       asks the database itself, as pam_mysql would
//! auth    required pam_mailsql.so config_file=/etc/pam-mysql.conf     the same, from pam_mysql's own file
//! ```
//! Direct mode is chosen by `user=`, `db=` or `config_file=`. The module's files: `args` the arguments, `module` the PAM
//! functions, `socket` and `direct` the two ways of asking with their tables of codes, `host` what is needed of PAM, `ffi`
//! libpam itself.
//!
//! # A guest in the host's process
//! No panic leaves a function: it is caught, logged without its words and answered with AUTHINFO_UNAVAIL. Nothing is printed;
//! no thread, file descriptor or signal handler outlives a call; nothing is shared between calls but the arguments, which
//! live with the PAM transaction. Built with `--no-default-features` it holds no SQL (socket mode alone).

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use pam::constants::{PamFlag, PamResultCode};
use pam::module::{PamHandle, PamHooks};

mod args;
#[cfg(feature = "direct")]
mod direct;
mod ffi;
mod host;
mod module;
#[cfg(test)]
mod module_tests;
#[cfg(test)]
mod script;
mod socket;

use host::{Host, Level};
use module::Hook;

#[allow(missing_docs, unreachable_pub, reason = "made by a macro of pam-bindings")]
mod entry {
    use super::Module;
    pam::pam_hooks!(Module);
}

struct Module;

impl PamHooks for Module {
    fn sm_authenticate(pamh: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        guarded(pamh, Hook::Authenticate, &args, flags)
    }

    fn acct_mgmt(pamh: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        guarded(pamh, Hook::Account, &args, flags)
    }

    fn sm_setcred(_: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        PamResultCode::PAM_SUCCESS
    }

    fn sm_chauthtok(pamh: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        guarded(pamh, Hook::Password, &args, flags)
    }

    fn sm_open_session(pamh: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        guarded(pamh, Hook::OpenSession, &args, flags)
    }

    fn sm_close_session(pamh: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        guarded(pamh, Hook::CloseSession, &args, flags)
    }
}

/// Whether the hook below is in place. It is that of our own copy of the standard library, not of the host.
static QUIET: AtomicBool = AtomicBool::new(false);

fn guarded(pamh: &mut PamHandle, hook: Hook, args: &[&CStr], flags: PamFlag) -> PamResultCode {
    if !QUIET.swap(true, Ordering::Relaxed) {
        // The usual hook writes to the host's stderr and, with RUST_BACKTRACE, maps and keeps our symbols.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let args: Vec<&[u8]> = args.iter().map(|arg| arg.to_bytes()).collect();
    let mut pam = ffi::Pam(pamh);
    catch_unwind(AssertUnwindSafe(|| module::run(&mut pam, hook, &args, flags))).unwrap_or_else(|payload| {
        // Dropping a payload may panic in turn.
        std::mem::forget(payload);
        pam.log(Level::Error, "result=unavailable: an error inside the module; please report it");
        PamResultCode::PAM_AUTHINFO_UNAVAIL
    })
}

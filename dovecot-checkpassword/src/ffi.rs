//! The two descriptors that Dovecot hands over by number.

use std::fs::File;
use std::os::fd::FromRawFd;

/// Where the request is read.
const REQUEST: i32 = 3;
/// Where the reply is written.
const REPLY: i32 = 4;

/// Descriptors 3 and 4. If one is not open, reading or writing it says so.
///
/// To be called once, first thing in `main`: nothing else can have been given these numbers by then.
pub(crate) fn descriptors() -> (File, File) {
    // SAFETY: the checkpassword interface opens both for this process, which has opened nothing itself so far; a number
    // that is not open makes every operation fail with EBADF and belongs to nobody else.
    unsafe { (File::from_raw_fd(REQUEST), File::from_raw_fd(REPLY)) }
}

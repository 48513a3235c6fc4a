//! crypt_r(3) of the host's libcrypt, for the methods no crate computes correctly.
//!
//! Linked by its run-time name, so that a machine with a compiler but without libcrypt-dev can build this: libcrypt.so.1
//! is part of every Debian and Ubuntu (libxcrypt 4.4).
//!
//! Limits: libxcrypt refuses passwords of 512 bytes and more and settings of 384 and more; both are refused here first.
//! Failure is a string that begins with `*`, never a null pointer in libxcrypt; glibc's old crypt returns null. Both
//! read as `None`.
//!
//! Security: the 32 KiB of state hold the password and what was derived from it; they are wiped before they are freed.
//! No global state: `crypt_r` may run in any number of threads.

use crate::limits::{MAX_CRYPT_PASSWORD, MAX_CRYPT_SETTING};
use std::ffi::{CStr, CString, c_char};
use zeroize::{Zeroize, Zeroizing};

/// `sizeof(struct crypt_data)` in <crypt.h>: part of libcrypt.so.1's binary interface.
const CRYPT_DATA_BYTES: usize = 32768;

#[repr(C, align(16))]
struct CryptData([u8; CRYPT_DATA_BYTES]);

impl Drop for CryptData {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[link(name = "libcrypt.so.1", kind = "dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    fn crypt_r(phrase: *const c_char, setting: *const c_char, data: *mut CryptData) -> *mut c_char;
}

/// crypt(3): the hash of `password` with the method, cost and salt of `setting`; None when libcrypt does not compute it.
/// The caller caps the cost that `setting` asks for.
pub(crate) fn crypt(password: &[u8], setting: &str) -> Option<String> {
    if password.len() > MAX_CRYPT_PASSWORD || setting.len() > MAX_CRYPT_SETTING || password.contains(&0) {
        return None;
    }
    // One allocation of the right size: growing would leave copies behind.
    let mut phrase = Zeroizing::new(Vec::with_capacity(password.len() + 1));
    phrase.extend_from_slice(password);
    phrase.push(0);
    let phrase = CStr::from_bytes_with_nul(&phrase).ok()?;
    let setting = CString::new(setting).ok()?;
    let mut data = Box::new(CryptData([0; CRYPT_DATA_BYTES]));
    // SAFETY: both strings end in NUL and outlive the call. `data` is zeroed, which is what crypt(3) asks of a new
    // crypt_data, has its full size, and is not shared with another thread.
    let hash = unsafe { crypt_r(phrase.as_ptr(), setting.as_ptr(), &raw mut *data) };
    if hash.is_null() {
        return None;
    }
    // SAFETY: not null, so crypt_r promises a NUL-terminated string; it lies in `data`, which lives until we return.
    let hash = unsafe { CStr::from_ptr(hash) }.to_str().ok()?;
    (!hash.starts_with('*')).then(|| hash.to_owned())
}

//! What needs C: crypt_r(3) of the host's libcrypt, for the methods no crate computes correctly, and the memory of
//! argon2.
//!
//! # libcrypt
//!
//! Linked by its run-time name, so that a machine with a compiler but without libcrypt-dev can build this:
//! libcrypt.so.1 is part of every Debian and Ubuntu (libxcrypt 4.4).
//!
//! Limits: libxcrypt refuses passwords of 512 bytes and more and settings of 384 and more; both are refused here first.
//! Failure is a string that begins with `*`, never a null pointer in libxcrypt; glibc's old crypt returns null. Both
//! read as `None`.
//!
//! Security: the 32 KiB of state hold the password and what was derived from it; they are wiped before they are freed.
//! No global state: `crypt_r` may run in any number of threads.
//!
//! # Memory for argon2
//!
//! 64 MiB are 16,384 page faults from the heap, a fifth of a verification; a mapping of its own may use huge pages.
//! It is left out of core dumps, and its pages go back to the kernel, which zeroes them, at the end of the call: the
//! host process (sshd, login) keeps nothing of it.

use crate::limits::{MAX_CRYPT_PASSWORD, MAX_CRYPT_SETTING};
use argon2::Block;
use std::{
    ffi::{CStr, CString, c_char},
    ptr::{NonNull, null_mut},
};
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

/// crypt(3): the hash of `password` with the method, cost and salt of `setting`; None when libcrypt does not compute
/// it. The caller caps the cost that `setting` asks for.
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

/// argon2 wants blocks of 1 KiB; with another size or alignment the mapping below would be wrong.
const _: () = assert!(size_of::<Block>() == 1024 && align_of::<Block>() <= 4096);

/// Zeroed memory of `count` blocks, from mmap(2).
pub(crate) struct Memory {
    start: NonNull<Block>,
    count: usize,
}

impl Memory {
    /// None when the system has not got it.
    pub(crate) fn new(count: usize) -> Option<Self> {
        let bytes = count.checked_mul(size_of::<Block>()).filter(|&bytes| bytes > 0)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice touches no memory of ours.
        let start =
            unsafe { libc::mmap(null_mut(), bytes, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        for advice in [libc::MADV_HUGEPAGE, libc::MADV_DONTDUMP] {
            // SAFETY: the range is the mapping just made. Neither advice changes its contents, so failure is harmless.
            unsafe { libc::madvise(start, bytes, advice) };
        }
        Some(Self { start: NonNull::new(start.cast())?, count })
    }

    pub(crate) fn blocks(&mut self) -> &mut [Block] {
        // SAFETY: the mapping holds `count` blocks, is page aligned, readable and writable, and ours alone until
        // drop. A Block is 128 plain u64 (argon2 0.6), for which zero bytes are a value.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.count) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, with its length; no reference to it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<Block>()) };
    }
}

//! The calls of libpam that pam-bindings leaves out, and the real [`Host`].
//!
//! Strings that libpam hands out belong to it and are copied at once; what we hand in, it copies.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::time::Duration;

use pam::constants::{PAM_ERROR_MSG, PAM_PROMPT_ECHO_OFF, PamResultCode};
use pam::conv::Conv;
use pam::items::{AuthTok, OldAuthTok, RHost, Service};
use pam::module::PamHandle;
use zeroize::Zeroizing;

use crate::host::{Host, Level, Secret};

#[link(name = "pam")]
unsafe extern "C" {
    fn pam_get_user(pamh: *mut PamHandle, user: *mut *const c_char, prompt: *const c_char) -> c_int;
    fn pam_set_item(pamh: *mut PamHandle, item: c_int, value: *const c_void) -> c_int;
    fn pam_fail_delay(pamh: *mut PamHandle, micros: c_uint) -> c_int;
    fn pam_syslog(pamh: *const PamHandle, priority: c_int, format: *const c_char, ...);
}

/// Under which our arguments are kept in the transaction. The version is part of it, so that another build of this module
/// in the same stack never takes our data for its own.
const KEPT: &str = concat!("pam_mailsql ", env!("CARGO_PKG_VERSION"));

/// Arguments kept with a transaction.
struct Kept(Vec<Secret>);

const PAM_AUTHTOK: c_int = 6;
const PAM_OLDAUTHTOK: c_int = 7;

/// libpam behind the trait.
pub(crate) struct Pam<'a>(pub(crate) &'a mut PamHandle);

impl Pam<'_> {
    fn set(&mut self, item: c_int, value: &Secret) {
        // One allocation of the right size: growing would leave copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(value.len() + 1));
        text.extend_from_slice(value);
        text.push(0);
        // An answer with a NUL inside cannot come from libpam, whose strings end there.
        if let Ok(text) = CStr::from_bytes_with_nul(&text) {
            // SAFETY: the handle is the one libpam called us with; `text` ends in NUL, lives through the call, and
            // pam_set_item(3) copies it. A failure leaves the item unset, which the next module copes with.
            let _ = unsafe { pam_set_item(self.0, item, text.as_ptr().cast()) };
        }
    }
}

impl Host for Pam<'_> {
    fn user(&mut self) -> Result<Vec<u8>, PamResultCode> {
        let mut user = ptr::null();
        // SAFETY: the handle is the one libpam called us with, `user` is ours to write, and a null prompt is the default.
        let code = unsafe { pam_get_user(self.0, &raw mut user, ptr::null()) };
        match PamResultCode::try_from(code) {
            Ok(PamResultCode::PAM_SUCCESS) if !user.is_null() => {
                // SAFETY: pam_get_user(3) succeeded, so this is a string of libpam's that lives until PAM_USER changes,
                // which nobody does before we have copied it.
                Ok(unsafe { CStr::from_ptr(user) }.to_bytes().to_vec())
            }
            Ok(PamResultCode::PAM_SUCCESS) | Err(_) => Err(PamResultCode::PAM_SYSTEM_ERR),
            Ok(code) => Err(code),
        }
    }

    fn service(&self) -> Vec<u8> {
        self.0.get_item::<Service<'_>>().ok().flatten().map(|item| item.to_bytes().to_vec()).unwrap_or_default()
    }

    fn client(&self) -> Vec<u8> {
        self.0.get_item::<RHost<'_>>().ok().flatten().map(|item| item.to_bytes().to_vec()).unwrap_or_default()
    }

    fn password(&self) -> Option<Secret> {
        let item = self.0.get_item::<AuthTok<'_>>().ok().flatten();
        item.map(|item| Zeroizing::new(item.as_bytes().to_vec()))
    }

    fn old_password(&self) -> Option<Secret> {
        let item = self.0.get_item::<OldAuthTok<'_>>().ok().flatten();
        item.map(|item| Zeroizing::new(item.as_bytes().to_vec()))
    }

    fn keep_password(&mut self, password: &Secret) {
        self.set(PAM_AUTHTOK, password);
    }

    fn keep_old_password(&mut self, password: &Secret) {
        self.set(PAM_OLDAUTHTOK, password);
    }

    fn prompt(&mut self, text: &str) -> Result<Option<Secret>, PamResultCode> {
        let conversation = self.0.get_item::<Conv<'_>>()?.ok_or(PamResultCode::PAM_CONV_ERR)?;
        let answer = conversation.send(PAM_PROMPT_ECHO_OFF, text)?;
        Ok(answer.map(|answer| Zeroizing::new(answer.as_bytes().to_vec())))
    }

    fn tell(&mut self, text: &str) {
        if let Ok(Some(conversation)) = self.0.get_item::<Conv<'_>>() {
            // An application that answers a message with no array is no error, though the crate below says so.
            let _ = conversation.send(PAM_ERROR_MSG, text);
        }
    }

    fn fail_delay(&mut self, delay: Duration) {
        let micros = c_uint::try_from(delay.as_micros()).unwrap_or(c_uint::MAX);
        // SAFETY: the handle is the one libpam called us with; libpam keeps the largest wish and we need no answer.
        let _ = unsafe { pam_fail_delay(self.0, micros) };
    }

    fn log(&mut self, level: Level, text: &str) {
        let priority = match level {
            Level::Error => libc::LOG_ERR,
            Level::Notice => libc::LOG_NOTICE,
            Level::Debug => libc::LOG_DEBUG,
        };
        let Ok(text) = CString::new(text) else { return };
        // SAFETY: the format takes one string, and `text` is one that lives through the call.
        unsafe { pam_syslog(self.0, priority, c"%s".as_ptr(), text.as_ptr()) };
    }

    fn is_root(&self) -> bool {
        // SAFETY: getuid(2) takes nothing and cannot fail.
        unsafe { libc::getuid() == 0 }
    }

    #[cfg(feature = "direct")]
    fn is_privileged(&self) -> bool {
        // SAFETY: geteuid(2) takes nothing and cannot fail.
        unsafe { libc::geteuid() == 0 }
    }

    fn remembered(&self) -> Vec<Secret> {
        // SAFETY: only `remember` below stores under this name, and it stores this type; the name holds our version.
        let kept = unsafe { self.0.get_data::<Kept>(KEPT) };
        kept.map(|kept| kept.0.clone()).unwrap_or_default()
    }

    fn remember(&mut self, arguments: Vec<Secret>) {
        // Without memory libpam refuses: then each line stands for itself.
        let _ = self.0.set_data(KEPT, Box::new(Kept(arguments)));
    }
}

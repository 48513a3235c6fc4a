//! libpam's application side, as much as a test needs.
//!
//! Linked by its run-time name, so no development package is needed. Source: pam_start(3), pam_conv(3) of Linux-PAM 1.5;
//! `pam_start_confdir` exists since 1.4.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use anyhow::{Result, bail};

use super::{Step, code_name};

const PAM_SUCCESS: c_int = 0;
const PAM_BUF_ERR: c_int = 5;
const PAM_CONV_ERR: c_int = 19;
const PAM_PROMPT_ECHO_OFF: c_int = 1;
const PAM_PROMPT_ECHO_ON: c_int = 2;
const PAM_ERROR_MSG: c_int = 3;
const PAM_ESTABLISH_CRED: c_int = 2;
/// PAM_MAX_NUM_MSG: no module may ask more at once.
const MAX_MESSAGES: usize = 32;

#[repr(C)]
struct PamMessage {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct PamResponse {
    text: *mut c_char,
    unused: c_int,
}

#[repr(C)]
struct PamConv {
    converse: extern "C" fn(c_int, *mut *const PamMessage, *mut *mut PamResponse, *mut c_void) -> c_int,
    data: *mut c_void,
}

#[repr(C)]
struct PamHandle {
    _opaque: [u8; 0],
}

#[link(name = "libpam.so.0", modifiers = "+verbatim")]
unsafe extern "C" {
    fn pam_start(
        service: *const c_char,
        user: *const c_char,
        conversation: *const PamConv,
        handle: *mut *mut PamHandle,
    ) -> c_int;
    fn pam_start_confdir(
        service: *const c_char,
        user: *const c_char,
        conversation: *const PamConv,
        confdir: *const c_char,
        handle: *mut *mut PamHandle,
    ) -> c_int;
    fn pam_set_item(handle: *mut PamHandle, item: c_int, value: *const c_void) -> c_int;
    fn pam_authenticate(handle: *mut PamHandle, flags: c_int) -> c_int;
    fn pam_acct_mgmt(handle: *mut PamHandle, flags: c_int) -> c_int;
    fn pam_setcred(handle: *mut PamHandle, flags: c_int) -> c_int;
    fn pam_chauthtok(handle: *mut PamHandle, flags: c_int) -> c_int;
    fn pam_open_session(handle: *mut PamHandle, flags: c_int) -> c_int;
    fn pam_close_session(handle: *mut PamHandle, flags: c_int) -> c_int;
    fn pam_end(handle: *mut PamHandle, status: c_int) -> c_int;
}

/// A transaction's inputs.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) service: Vec<u8>,
    pub(super) user: Vec<u8>,
    pub(super) confdir: Option<Vec<u8>>,
    pub(super) items: Vec<(i32, Vec<u8>)>,
    pub(super) answers: VecDeque<Vec<u8>>,
}

/// What a transaction did: each step's code, and every prompt as `STYLE TEXT`.
pub(super) struct Outcome {
    pub(super) results: Vec<(Step, i32)>,
    pub(super) prompts: Vec<String>,
}

/// What the conversation function sees and leaves behind.
struct Talk {
    answers: VecDeque<Vec<u8>>,
    prompts: Vec<String>,
}

/// Runs every step in order and returns their codes and the prompts.
pub(super) fn transact(script: Script, steps: &[(Step, i32)]) -> Result<Outcome> {
    let service = CString::new(script.service)?;
    let user = CString::new(script.user)?;
    let confdir = script.confdir.map(CString::new).transpose()?;
    let items = script.items.into_iter().map(|(item, value)| Ok((item, CString::new(value)?)));
    let items = items.collect::<Result<Vec<_>>>()?;
    let mut talk = Talk { answers: script.answers, prompts: Vec::new() };
    let conversation = PamConv { converse, data: (&raw mut talk).cast() };
    let mut handle = ptr::null_mut();
    // SAFETY: all strings are NUL-terminated and live to the end of this function; libpam copies the conversation
    // structure, whose data pointer stays valid until pam_end below, and writes the handle.
    let started = unsafe {
        match &confdir {
            None => pam_start(service.as_ptr(), user.as_ptr(), &raw const conversation, &raw mut handle),
            Some(folder) => pam_start_confdir(
                service.as_ptr(),
                user.as_ptr(),
                &raw const conversation,
                folder.as_ptr(),
                &raw mut handle,
            ),
        }
    };
    if started != PAM_SUCCESS {
        bail!("pam_start: {}", code_name(started));
    }
    for (item, value) in &items {
        // SAFETY: the handle is live; these items are strings, which libpam copies.
        let set = unsafe { pam_set_item(handle, *item, value.as_ptr().cast()) };
        if set != PAM_SUCCESS {
            bail!("pam_set_item {item}: {}", code_name(set));
        }
    }
    let mut results = Vec::with_capacity(steps.len());
    let mut last = PAM_SUCCESS;
    for (step, flags) in steps {
        // SAFETY: the handle is live and used by this thread alone.
        last = unsafe {
            match step {
                Step::Authenticate => pam_authenticate(handle, *flags),
                Step::AcctMgmt => pam_acct_mgmt(handle, *flags),
                Step::Setcred => pam_setcred(handle, *flags | PAM_ESTABLISH_CRED),
                Step::Chauthtok => pam_chauthtok(handle, *flags),
                Step::OpenSession => pam_open_session(handle, *flags),
                Step::CloseSession => pam_close_session(handle, *flags),
            }
        };
        results.push((*step, last));
    }
    // SAFETY: the handle came from pam_start and is not used again; `talk` is read only after this.
    unsafe { pam_end(handle, last) };
    Ok(Outcome { results, prompts: talk.prompts })
}

/// Answers prompts from the script, in order.
extern "C" fn converse(
    count: c_int,
    messages: *mut *const PamMessage,
    responses: *mut *mut PamResponse,
    data: *mut c_void,
) -> c_int {
    let Ok(count) = usize::try_from(count) else { return PAM_CONV_ERR };
    if count == 0 || count > MAX_MESSAGES || messages.is_null() || responses.is_null() || data.is_null() {
        return PAM_CONV_ERR;
    }
    // SAFETY: `data` is the pointer given to pam_start: a Talk that outlives the handle, touched by this thread only.
    let talk = unsafe { &mut *data.cast::<Talk>() };
    // SAFETY: calloc of `count` zeroed structures; the caller frees them and each text with free(3), as pam_conv(3) asks.
    let replies = unsafe { libc::calloc(count, size_of::<PamResponse>()) }.cast::<PamResponse>();
    if replies.is_null() {
        return PAM_BUF_ERR;
    }
    for index in 0..count {
        // SAFETY: Linux-PAM passes an array of `count` pointers to messages whose text is a C string.
        let (style, text) = unsafe {
            let message = &**messages.add(index);
            (message.style, CStr::from_ptr(message.text).to_string_lossy().into_owned())
        };
        let word = match style {
            PAM_PROMPT_ECHO_OFF => "off",
            PAM_PROMPT_ECHO_ON => "on",
            PAM_ERROR_MSG => "error",
            _ => "info",
        };
        talk.prompts.push(format!("{word} {text}"));
        if style != PAM_PROMPT_ECHO_OFF && style != PAM_PROMPT_ECHO_ON {
            continue;
        }
        let answer = talk.answers.pop_front().and_then(|bytes| CString::new(bytes).ok());
        let Some(answer) = answer else {
            // SAFETY: nothing else refers to the array; texts already placed are leaked by a process about to end.
            unsafe { libc::free(replies.cast()) };
            return PAM_CONV_ERR;
        };
        // SAFETY: `index` is below `count`; strdup copies the answer into memory the caller frees.
        unsafe { (*replies.add(index)).text = libc::strdup(answer.as_ptr()) };
    }
    // SAFETY: checked above not to be null; the caller reads one pointer from it.
    unsafe { *responses = replies };
    PAM_SUCCESS
}

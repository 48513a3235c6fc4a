//! libpam, opened when it is needed: whoever does not use `-a pam` needs no libpam, not even to build.
//!
//! What Linux-PAM promises (pam_start(3), pam_conv(3)): the conversation function is called by modules during
//! pam_authenticate and pam_acct_mgmt only, on the same thread; it gives back an array of responses from calloc with
//! texts from malloc, both freed by the module.
//!
//! Modules are other people's code. They run in a process that serves one request at a time and may be lost.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use zeroize::Zeroizing;

/// The library's name for running programs; that of its development package is for building ones.
const LIBRARY: &CStr = c"libpam.so.0";

const PAM_PROMPT_ECHO_OFF: c_int = 1;
const PAM_PROMPT_ECHO_ON: c_int = 2;
const PAM_ERROR_MSG: c_int = 3;
const PAM_TEXT_INFO: c_int = 4;
const PAM_RHOST: c_int = 4;
const PAM_SILENT: c_int = 0x8000;
const PAM_BUF_ERR: c_int = 5;
const PAM_CONV_ERR: c_int = 19;
/// Result of a step that went well.
pub(crate) const PAM_SUCCESS: c_int = 0;
/// Most messages in one conversation (PAM_MAX_NUM_MSG).
const MAX_MESSAGES: usize = 32;

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    code: c_int,
}

#[repr(C)]
struct Conversation {
    call: extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int,
    data: *mut c_void,
}

type Start = unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *mut *mut c_void) -> c_int;
type SetItem = unsafe extern "C" fn(*mut c_void, c_int, *const c_void) -> c_int;
type Step = unsafe extern "C" fn(*mut c_void, c_int) -> c_int;
type StrError = unsafe extern "C" fn(*mut c_void, c_int) -> *const c_char;

/// The functions of libpam.
pub(crate) struct Pam {
    start: Start,
    set_item: SetItem,
    authenticate: Step,
    acct_mgmt: Step,
    end: Step,
    strerror: StrError,
}

/// Who logs in, and where.
pub(crate) struct Login {
    /// PAM service, a file in /etc/pam.d.
    pub(crate) service: CString,
    /// User.
    pub(crate) user: CString,
    /// Password, with its NUL.
    pub(crate) password: Zeroizing<Vec<u8>>,
    /// Address of the client, where it is known.
    pub(crate) client: Option<CString>,
}

/// Which step gave a result, and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Result {
    /// pam_start.
    Start(c_int),
    /// pam_authenticate.
    Auth(c_int),
    /// pam_acct_mgmt; [`PAM_SUCCESS`] here is a login.
    Acct(c_int),
}

impl Pam {
    /// Opens libpam, for as long as the process lives.
    pub(crate) fn open() -> std::result::Result<Self, String> {
        // SAFETY: the name is a C string; libpam's constructors have no demands on the caller.
        let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if library.is_null() {
            return Err(format!("cannot load {}: install libpam0g (Debian) or pam (RHEL)", LIBRARY.to_string_lossy()));
        }
        let find = |name: &CStr| {
            // SAFETY: the handle is open and stays so, the name is a C string.
            let found = unsafe { libc::dlsym(library, name.as_ptr()) };
            if found.is_null() { Err(format!("libpam has no {}", name.to_string_lossy())) } else { Ok(found) }
        };
        let (start, set_item) = (find(c"pam_start")?, find(c"pam_set_item")?);
        let (authenticate, acct_mgmt) = (find(c"pam_authenticate")?, find(c"pam_acct_mgmt")?);
        let (end, strerror) = (find(c"pam_end")?, find(c"pam_strerror")?);
        // SAFETY: these are the signatures that security/pam_appl.h declares for these names, unchanged in libpam.so.0.
        unsafe {
            Ok(Self {
                start: std::mem::transmute::<*mut c_void, Start>(start),
                set_item: std::mem::transmute::<*mut c_void, SetItem>(set_item),
                authenticate: std::mem::transmute::<*mut c_void, Step>(authenticate),
                acct_mgmt: std::mem::transmute::<*mut c_void, Step>(acct_mgmt),
                end: std::mem::transmute::<*mut c_void, Step>(end),
                strerror: std::mem::transmute::<*mut c_void, StrError>(strerror),
            })
        }
    }

    /// pam_start, pam_authenticate, pam_acct_mgmt, pam_end, as saslauthd does.
    pub(crate) fn log_in(&self, login: &Login) -> Result {
        let conversation = Conversation { call: converse, data: ptr::from_ref(login).cast_mut().cast() };
        let mut handle = ptr::null_mut();
        // SAFETY: strings and conversation outlive the handle, which ends below.
        let started = unsafe {
            (self.start)(login.service.as_ptr(), login.user.as_ptr(), &raw const conversation, &raw mut handle)
        };
        if started != PAM_SUCCESS {
            return Result::Start(started);
        }
        if let Some(client) = &login.client {
            // SAFETY: the handle is open; the item is a C string, which libpam copies.
            unsafe { (self.set_item)(handle, PAM_RHOST, client.as_ptr().cast()) };
        }
        // SAFETY: the handle is open.
        let authenticated = unsafe { (self.authenticate)(handle, PAM_SILENT) };
        let result = if authenticated == PAM_SUCCESS {
            // SAFETY: the handle is open.
            Result::Acct(unsafe { (self.acct_mgmt)(handle, PAM_SILENT) })
        } else {
            Result::Auth(authenticated)
        };
        let (Result::Start(last) | Result::Auth(last) | Result::Acct(last)) = result;
        // SAFETY: the handle is open, and not used any more.
        unsafe { (self.end)(handle, last) };
        result
    }

    /// libpam's words for a result.
    pub(crate) fn describe(&self, code: c_int) -> String {
        // SAFETY: pam_strerror does not look at its handle and gives back a C string that stays until the next call, or
        // null.
        let text = unsafe { (self.strerror)(ptr::null_mut(), code) };
        if text.is_null() {
            return format!("PAM result {code}");
        }
        // SAFETY: a C string, copied before anything else is called.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

/// The conversation: the password where nothing is echoed, the user where it is, nothing to what is only told. Nothing
/// in here can panic.
extern "C" fn converse(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    if count == 0 || count > MAX_MESSAGES || messages.is_null() || responses.is_null() || data.is_null() {
        return PAM_CONV_ERR;
    }
    // SAFETY: the pointer that log_in gave to pam_start; the login lives until pam_end.
    let login = unsafe { &*data.cast::<Login>() };
    // SAFETY: calloc takes no pointers; all-zero responses are valid (no text).
    let array = unsafe { libc::calloc(count, size_of::<Response>()) }.cast::<Response>();
    if array.is_null() {
        return PAM_BUF_ERR;
    }
    for at in 0..count {
        // SAFETY: Linux-PAM passes an array of `count` pointers to messages.
        let style = unsafe { (**messages.add(at)).style };
        let text = match style {
            PAM_PROMPT_ECHO_OFF => login.password.as_ptr().cast(),
            PAM_PROMPT_ECHO_ON => login.user.as_ptr(),
            PAM_ERROR_MSG | PAM_TEXT_INFO => continue,
            _ => {
                free(array, at);
                return PAM_CONV_ERR;
            }
        };
        // SAFETY: both are C strings: the user by type, the password as its maker promises (see `worker`).
        let copy = unsafe { libc::strdup(text) };
        if copy.is_null() {
            free(array, at);
            return PAM_BUF_ERR;
        }
        // SAFETY: `at` is within the array just allocated.
        unsafe { (*array.add(at)).text = copy };
    }
    // SAFETY: where the module wants the array.
    unsafe { *responses = array };
    PAM_SUCCESS
}

/// Frees the first `count` texts, wiped, and the array.
fn free(array: *mut Response, count: usize) {
    for at in 0..count {
        // SAFETY: the caller filled this many elements with texts from strdup, or left them null.
        unsafe {
            let text = (*array.add(at)).text;
            if !text.is_null() {
                ptr::write_bytes(text, 0, libc::strlen(text));
                libc::free(text.cast());
            }
        }
    }
    // SAFETY: from calloc, and nobody else knows it.
    unsafe { libc::free(array.cast()) };
}

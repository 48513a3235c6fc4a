//! glibc's side: the exported functions, and the caller's buffers.
//!
//! Every export catches panics, so that none crosses into C, and keeps them silent; it may be called from any thread and on
//! either side of a fork, since nothing is kept but the place of an enumeration, which is behind a lock that a panic or a
//! fork in another thread cannot leave us waiting for (`try_lock`).

#![expect(unreachable_pub, reason = "glibc reaches these by name")]

use crate::conf::{Conf, PATH};
use crate::entry::{Group, PASSWORD, SHELL, User, lay_out};
use crate::module::{self, Status};
use libc::{c_char, c_int, c_long, gid_t, group, passwd, size_t, uid_t};
use mailsql_ask::Client;
use std::cell::Cell;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, Once};

const TRYAGAIN: c_int = -2;
const NOTFOUND: c_int = 0;
const SUCCESS: c_int = 1;

unsafe extern "C" {
    /// getenv(3), but null in a program that has more rights than its caller.
    fn secure_getenv(name: *const c_char) -> *mut c_char;
}

/// Makes panics silent, once: the host's standard error is not ours to write to.
static SILENCE: Once = Once::new();

thread_local! {
    /// Whether this thread is in a call of ours: what we call must not lead back to us. No destructor: one would keep a
    /// library mapped.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// The place of `getpwent_r`, shared by the process as glibc has it.
struct Cursor {
    waiting: Vec<User>,
    after: Option<Vec<u8>>,
    more: bool,
}

static CURSOR: Mutex<Cursor> = Mutex::new(Cursor { waiting: Vec::new(), after: None, more: true });

/// Runs a question and turns its outcome into glibc's status and errno.
fn answer(errnop: *mut c_int, question: impl FnOnce(&Conf, &Client) -> Result<(), Status>) -> c_int {
    let entered = BUSY.try_with(|busy| !busy.replace(true)).unwrap_or(false);
    SILENCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let status = if entered {
        let asked = catch_unwind(AssertUnwindSafe(|| {
            let conf = Conf::load(&conf_path());
            let client = Client::new(conf.socket.clone(), conf.timeout);
            question(&conf, &client)
        }));
        let _ = BUSY.try_with(|busy| busy.set(false));
        match asked {
            Ok(Ok(())) => Status::Success,
            Ok(Err(status)) => status,
            Err(payload) => {
                // Dropping a payload may panic again.
                std::mem::forget(payload);
                Status::TryAgain
            }
        }
    } else {
        Status::NotFound
    };
    let (code, errno) = match status {
        Status::Success => return SUCCESS,
        Status::NotFound => (NOTFOUND, libc::ENOENT),
        Status::TooSmall => (TRYAGAIN, libc::ERANGE),
        Status::TryAgain => (TRYAGAIN, libc::EAGAIN),
    };
    if !errnop.is_null() {
        // SAFETY: glibc passes the address of an int that lives through the call; it was checked for null.
        unsafe { *errnop = errno };
    }
    code
}

/// Another file for tests; not for programs that run with more rights than their caller has.
fn conf_path() -> PathBuf {
    // SAFETY: the name is a C string; the result is null or a C string of the environment, copied before anything can
    // change the environment in this thread.
    unsafe {
        let value = secure_getenv(c"MAILSQL_NSS_CONF".as_ptr());
        if value.is_null() {
            return PATH.into();
        }
        CStr::from_ptr(value).to_str().map_or_else(|_| PATH.into(), PathBuf::from)
    }
}

/// The bytes of a name that glibc passes.
///
/// # Safety
/// `name` is null or a C string that lives through the call.
unsafe fn name_bytes<'a>(name: *const c_char) -> Result<&'a [u8], Status> {
    if name.is_null() {
        return Err(Status::NotFound);
    }
    // SAFETY: not null, and a C string by the caller's promise.
    Ok(unsafe { CStr::from_ptr(name) }.to_bytes())
}

/// Writes NUL-terminated strings into a caller's buffer from `start` on and returns where each begins.
///
/// # Safety
/// `buffer` is valid for writes of `size` bytes.
unsafe fn put_strings(
    buffer: *mut c_char,
    size: size_t,
    start: usize,
    fields: &[&[u8]],
) -> Result<Vec<*mut c_char>, Status> {
    let places = lay_out(fields, start, size).ok_or(Status::TooSmall)?;
    let mut pointers = Vec::with_capacity(fields.len());
    for (field, place) in fields.iter().zip(places) {
        // SAFETY: lay_out keeps every string with its NUL below `size`, and the buffer is valid for that many bytes.
        unsafe {
            let at = buffer.add(place);
            std::ptr::copy_nonoverlapping(field.as_ptr().cast(), at, field.len());
            at.add(field.len()).write(0);
            pointers.push(at);
        }
    }
    Ok(pointers)
}

/// Fills a passwd.
///
/// # Safety
/// `result` is valid for a write, `buffer` for `size` bytes.
unsafe fn put_user(user: &User, result: *mut passwd, buffer: *mut c_char, size: size_t) -> Result<(), Status> {
    if result.is_null() || buffer.is_null() {
        return Err(Status::TooSmall);
    }
    // SAFETY: by the caller's promise; both were checked for null.
    unsafe {
        let fields: [&[u8]; 5] = [&user.name, PASSWORD, b"", &user.home, SHELL];
        let pointers = put_strings(buffer, size, 0, &fields)?;
        let [name, password, gecos, home, shell] = pointers[..] else { return Err(Status::TryAgain) };
        result.write(passwd {
            pw_name: name,
            pw_passwd: password,
            pw_uid: user.uid,
            pw_gid: user.gid,
            pw_gecos: gecos,
            pw_dir: home,
            pw_shell: shell,
        });
    }
    Ok(())
}

/// Fills a group; the array of members comes first, aligned for pointers.
///
/// # Safety
/// As [`put_user`].
unsafe fn put_group(found: &Group, result: *mut group, buffer: *mut c_char, size: size_t) -> Result<(), Status> {
    if result.is_null() || buffer.is_null() {
        return Err(Status::TooSmall);
    }
    let offset = buffer.align_offset(align_of::<*mut c_char>());
    let array = (found.members.len() + 1).checked_mul(size_of::<*mut c_char>()).ok_or(Status::TooSmall)?;
    let start = offset.checked_add(array).filter(|start| *start <= size).ok_or(Status::TooSmall)?;
    let mut fields: Vec<&[u8]> = vec![&found.name, PASSWORD];
    fields.extend(found.members.iter().map(Vec::as_slice));
    // SAFETY: by the caller's promise; `start` bytes are within the buffer, the array is aligned, and the strings lie
    // behind it.
    unsafe {
        let pointers = put_strings(buffer, size, start, &fields)?;
        let members: *mut *mut c_char = buffer.add(offset).cast();
        for (at, pointer) in pointers[2..].iter().enumerate() {
            members.add(at).write(*pointer);
        }
        members.add(found.members.len()).write(std::ptr::null_mut());
        result.write(group { gr_name: pointers[0], gr_passwd: pointers[1], gr_gid: found.gid, gr_mem: members });
    }
    Ok(())
}

/// `getpwnam_r(3)`.
///
/// # Safety
/// glibc's promise: a C string, a passwd and a buffer of `size` bytes to fill, an int for errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_mailsql_getpwnam_r(
    name: *const c_char,
    result: *mut passwd,
    buffer: *mut c_char,
    size: size_t,
    errnop: *mut c_int,
) -> c_int {
    answer(errnop, |conf, client| {
        // SAFETY: glibc's promise, as above.
        let name = unsafe { name_bytes(name) }?;
        let user = module::user(client, conf, name)?;
        // SAFETY: glibc's promise, as above.
        unsafe { put_user(&user, result, buffer, size) }
    })
}

/// `getpwuid_r(3)`.
///
/// # Safety
/// As [`_nss_mailsql_getpwnam_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_mailsql_getpwuid_r(
    id: uid_t,
    result: *mut passwd,
    buffer: *mut c_char,
    size: size_t,
    errnop: *mut c_int,
) -> c_int {
    answer(errnop, |_, client| {
        let user = module::user_by_id(client, id)?;
        // SAFETY: glibc's promise, as above.
        unsafe { put_user(&user, result, buffer, size) }
    })
}

/// `getgrnam_r(3)`.
///
/// # Safety
/// As [`_nss_mailsql_getpwnam_r`], with a group.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_mailsql_getgrnam_r(
    name: *const c_char,
    result: *mut group,
    buffer: *mut c_char,
    size: size_t,
    errnop: *mut c_int,
) -> c_int {
    answer(errnop, |conf, client| {
        // SAFETY: glibc's promise, as above.
        let name = unsafe { name_bytes(name) }?;
        let found = module::group(client, conf, name)?;
        // SAFETY: glibc's promise, as above.
        unsafe { put_group(&found, result, buffer, size) }
    })
}

/// `getgrgid_r(3)`.
///
/// # Safety
/// As [`_nss_mailsql_getgrnam_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_mailsql_getgrgid_r(
    id: gid_t,
    result: *mut group,
    buffer: *mut c_char,
    size: size_t,
    errnop: *mut c_int,
) -> c_int {
    answer(errnop, |_, client| {
        let found = module::group_by_id(client, id)?;
        // SAFETY: glibc's promise, as above.
        unsafe { put_group(&found, result, buffer, size) }
    })
}

fn rewind() -> c_int {
    if let Ok(mut cursor) = CURSOR.try_lock() {
        *cursor = Cursor { waiting: Vec::new(), after: None, more: true };
    }
    SUCCESS
}

/// `setpwent(3)`.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_mailsql_setpwent(_stay_open: c_int) -> c_int {
    rewind()
}

/// `endpwent(3)`.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_mailsql_endpwent() -> c_int {
    rewind()
}

/// `getpwent_r(3)`.
///
/// # Safety
/// As [`_nss_mailsql_getpwnam_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_mailsql_getpwent_r(
    result: *mut passwd,
    buffer: *mut c_char,
    size: size_t,
    errnop: *mut c_int,
) -> c_int {
    answer(errnop, |conf, client| {
        if !conf.enumerate {
            return Err(Status::NotFound);
        }
        let mut cursor = CURSOR.try_lock().map_err(|_| Status::TryAgain)?;
        while cursor.waiting.is_empty() && cursor.more {
            let after = cursor.after.clone();
            let (mut users, more) = module::page(client, after.as_deref())?;
            cursor.more = more && !users.is_empty();
            cursor.after = users.last().map(|user| user.name.clone());
            users.reverse();
            cursor.waiting = users;
        }
        let Some(user) = cursor.waiting.last() else { return Err(Status::NotFound) };
        // SAFETY: glibc's promise, as above.
        unsafe { put_user(user, result, buffer, size) }?;
        // Only now: after ERANGE the same entry is asked for again.
        cursor.waiting.pop();
        Ok(())
    })
}

/// `setgrent(3)`: there is nothing to enumerate.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_mailsql_setgrent(_stay_open: c_int) -> c_int {
    SUCCESS
}

/// `endgrent(3)`.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_mailsql_endgrent() -> c_int {
    SUCCESS
}

/// `getgrent_r(3)`: there is nothing to enumerate.
///
/// # Safety
/// As [`_nss_mailsql_getgrnam_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_mailsql_getgrent_r(
    _result: *mut group,
    _buffer: *mut c_char,
    _size: size_t,
    errnop: *mut c_int,
) -> c_int {
    answer(errnop, |_, _| Err(Status::NotFound))
}

/// `initgroups(3)`: adds the further groups of a user to a list that the caller frees.
///
/// # Safety
/// glibc's promise: `start` and `size` are the used and the whole length of the malloc'ed list at `*groupsp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_mailsql_initgroups_dyn(
    user: *const c_char,
    group: gid_t,
    start: *mut c_long,
    size: *mut c_long,
    groupsp: *mut *mut gid_t,
    limit: c_long,
    errnop: *mut c_int,
) -> c_int {
    answer(errnop, |conf, client| {
        // SAFETY: glibc's promise, as above.
        let name = unsafe { name_bytes(user) }?;
        let found = module::groups(client, conf, name)?;
        let mut added = false;
        for id in found.into_iter().filter(|id| *id != group) {
            // SAFETY: glibc's promise, as above; the list is grown by realloc before it is written beyond its end.
            unsafe {
                if *start >= *size {
                    if limit > 0 && *size >= limit {
                        break;
                    }
                    let wanted = (*size).max(8).saturating_mul(2);
                    let wanted = if limit > 0 { wanted.min(limit) } else { wanted };
                    let bytes = usize::try_from(wanted).unwrap_or(0).saturating_mul(size_of::<gid_t>());
                    let grown = libc::realloc((*groupsp).cast(), bytes);
                    if grown.is_null() {
                        return Err(Status::TryAgain);
                    }
                    *groupsp = grown.cast();
                    *size = wanted;
                }
                let at = usize::try_from(*start).map_err(|_| Status::TryAgain)?;
                (*groupsp).add(at).write(id);
                *start += 1;
            }
            added = true;
        }
        if added { Ok(()) } else { Err(Status::NotFound) }
    })
}

//! Names of error numbers: `EPERM` says more to who reads a runtime's error than a sentence.

use std::io;

macro_rules! names {
    ($($name:ident)*) => { &[$((libc::$name, stringify!($name))),*] };
}

const NAMES: &[(i32, &str)] = names!(
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST
    EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM
    ERANGE ENAMETOOLONG ENOSYS ENOTEMPTY ELOOP EOVERFLOW ENOTSOCK EMSGSIZE EOPNOTSUPP EADDRINUSE ECONNREFUSED
    ECONNRESET ETIMEDOUT ESTALE EDQUOT EUSERS ENODATA ENOBUFS ENOTCONN EALREADY
);

/// `EPERM` and the like, else the system's own sentence.
pub fn name(error: &io::Error) -> String {
    let named = error.raw_os_error().and_then(|code| NAMES.iter().find(|(number, _)| *number == code));
    named.map_or_else(|| error.to_string(), |(_, name)| (*name).to_owned())
}

/// The sentence of an error number in lower case and without the number, as Go's tools print it.
pub fn sentence(code: i32) -> String {
    let text = io::Error::from_raw_os_error(code).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.to_lowercase()
}

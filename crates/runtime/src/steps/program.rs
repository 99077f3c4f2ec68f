//! The program: where it is, where it starts, and becoming it. Messages are worded as Docker's clients read them.

use std::{
    collections::BTreeSet,
    ffi::CString,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, AtFlags, CWD, FileType, accessat, stat},
    io::Errno,
};

use super::Child;
use crate::{
    error::{During, Error, Result},
    seccomp::{Program, notify},
};

/// Changes to `path` and makes sure that it is in the container: a descriptor of the host that leaked into
/// `/proc/self/fd` would be a way out (CVE-2024-21626).
pub(super) fn change_directory(path: &Path) -> Result<()> {
    let what = || format!("chdir to cwd ({:?}) set in config.json failed", path.display().to_string());
    rustix::process::chdir(path).map_err(|error| sentence(what(), error))?;
    // The system call: libc's getcwd walks up by itself when the kernel says "(unreachable)".
    let cwd = rustix::process::getcwd(Vec::new()).map_err(|error| sentence(what(), error))?;
    if !cwd.to_bytes().starts_with(b"/") {
        return Err(Error::new(format!("{}: is outside of the container's root", what())));
    }
    Ok(())
}

fn sentence(what: impl std::fmt::Display, error: Errno) -> Error {
    let mut refused = Error::new(format!("{what}: {}", sys::errno::sentence(error.raw_os_error())));
    refused.errno = Some(error.raw_os_error());
    refused
}

/// Finds the program as the container's user sees it.
pub(super) fn find(child: &mut Child<'_>) -> Result<()> {
    let name = child.args.first().cloned().unwrap_or_default();
    let found = locate(&name, &child.env)?;
    child.program = Some(c_string(&found.display().to_string())?);
    Ok(())
}

fn locate(name: &str, env: &[String]) -> Result<PathBuf> {
    let what = format!("exec: {name:?}");
    if name.contains('/') {
        return match usable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(error @ (Errno::ACCESS | Errno::PERM | Errno::ISDIR)) => Err(sentence(what, error)),
            Err(error) => Err(sentence(format!("{what}: stat {name}"), error)),
        };
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    let mut denied = false;
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = Path::new(directory).join(name);
        match usable(&candidate) {
            Ok(()) if !name.is_empty() => return Ok(candidate),
            Err(Errno::ACCESS) => denied = true,
            _ => {}
        }
    }
    if denied {
        return Err(sentence(what, Errno::ACCESS));
    }
    let mut missing = Error::new(format!("{what}: executable file not found in $PATH"));
    missing.errno = Some(Errno::NOENT.raw_os_error());
    Err(missing)
}

fn usable(path: &Path) -> rustix::io::Result<()> {
    let found = stat(path)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        return Err(Errno::ACCESS); // Go's and runc's word for it: permission denied.
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::new(format!("{text:?}: contains a NUL byte")))
}

/// Loads a filter, and with an agent to decide on calls waits until that has been told.
pub(super) fn confine(child: &mut Child<'_>, program: &Program) -> Result<()> {
    if program.notifies() {
        notify::announce(child.channel)?;
    }
    sys::process::load_seccomp(&program.code, program.flags).during(|| "load seccomp filter")?;
    if program.notifies() { notify::await_taken() } else { Ok(()) }
}

/// Becomes the program.
pub(super) fn exec(child: &mut Child<'_>, args: &[String], env: &[String]) -> Result<()> {
    let all = |list: &[String]| list.iter().map(|text| c_string(text)).collect::<Result<Vec<_>>>();
    let (args, mut env) = (all(args)?, all(&last_of_each(env))?);
    if !env.iter().any(|entry| entry.to_bytes().starts_with(b"HOME=")) {
        env.push(c_string(&format!("HOME={}", home()))?);
    }
    let program = child.program.take().ok_or_else(|| Error::new("exec: no program"))?;
    sys::process::reset_signals();
    let error = sys::process::exec(&program, &args, &env);
    let code = error.raw_os_error().unwrap_or_default();
    let shown = program.to_string_lossy();
    Err(sentence(format!("exec {shown}"), Errno::from_raw_os_error(code)))
}

/// Without what a later entry of the same name overrides; programs differ in which of two they take.
fn last_of_each(env: &[String]) -> Vec<String> {
    let name = |entry: &String| entry.split_once('=').map(|(name, _)| name.to_owned());
    let mut seen = BTreeSet::new();
    let mut kept: Vec<String> = env.iter().rev().filter(|entry| seen.insert(name(entry))).cloned().collect();
    kept.reverse();
    kept
}

/// The user's home by the container's own `/etc/passwd`, as runc sets it when the environment has none.
fn home() -> String {
    let find = || -> Option<String> {
        let uid = rustix::process::getuid().as_raw().to_string();
        let root = sys::Root::open(Path::new("/")).ok()?;
        let passwd = root.read_regular(Path::new("/etc/passwd"), 1 << 20).ok()?;
        let passwd = String::from_utf8_lossy(&passwd);
        let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
        let home = line.split(':').nth(5).filter(|home| !home.is_empty() && !home.contains('\0'))?;
        Some(home.to_owned())
    };
    find().unwrap_or_else(|| "/".to_owned())
}

//! Memory that an idle process need not hold.

use std::{fs, io, ops::Range};

use rustix::mm::{Advice, madvise};

/// Gives back what a long-lived process that was busy and is idle now does not need: the heap's unused pages, and
/// the mapping of its own code, which stays in the page cache and comes back page by page as it is used.
pub fn give_back() -> io::Result<()> {
    // SAFETY: `malloc_trim(3)` has no preconditions.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for code in maps.lines().filter_map(|line| code_of(line, program.to_str()?)) {
        // SAFETY: a private mapping of a file that is not writable, so never written, reads the same afterwards.
        // Other read-only mappings are left alone: the loader has written relocations into some of them.
        unsafe { madvise(code.start as *mut _, code.len(), Advice::LinuxDontNeed) }?;
    }
    Ok(())
}

/// The range of a line of `/proc/PID/maps` that is code of `program`.
fn code_of(line: &str, program: &str) -> Option<Range<usize>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    (rest.starts_with("r-xp ") && rest.ends_with(program)).then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_found_and_the_program_goes_on() {
        let line = |rights: &str| format!("7f00-7f10 {rights} 0005b000 fe:00 57     /bin/p q");
        assert_eq!(code_of(&line("r-xp"), "/bin/p q"), Some(0x7f00..0x7f10));
        assert_eq!(code_of(&line("r--p"), "/bin/p q"), None);
        assert_eq!(code_of(&line("r-xp"), "/bin/other"), None);
        give_back().unwrap();
        assert_eq!(format!("{:?}", fs::metadata("/").map(|root| root.is_dir())), "Ok(true)");
    }
}

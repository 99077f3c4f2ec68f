//! Who a container's process is: `USER[:GROUP]` resolved by the container's own passwd and group files.
//!
//! Numbers are ids, never names (CVE-2016-3697); no sign, no overflow (CVE-2024-40635); supplementary groups are
//! always set (CVE-2022-36109). The files come from the container and are read by the path door, bounded.

use oci::spec;

use crate::error::{Error, Kind, Result};

/// Most bytes read of either file.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// Who, and where that user is at home.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Identity {
    pub(crate) user: spec::User,
    pub(crate) home: String,
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupLine<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn passwd_lines(file: &str) -> impl Iterator<Item = PasswdLine<'_>> {
    file.lines().filter_map(|line| {
        let mut fields = line.trim_end_matches('\r').split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let (uid, gid) = (id(fields.nth(1)?)?, id(fields.next()?)?);
        Some(PasswdLine { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

fn group_lines(file: &str) -> impl Iterator<Item = GroupLine<'_>> {
    file.lines().filter_map(|line| {
        let mut fields = line.trim_end_matches('\r').split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = id(fields.nth(1)?)?;
        Some(GroupLine { name, gid, members: fields.next().unwrap_or_default() })
    })
}

/// Decimal digits only, below the reserved 2³²-1.
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?.filter(|id| *id != u32::MAX)
}

/// Resolves `words` by what `read` finds in the container's files; an absent file is empty.
pub(crate) fn of(words: &str, read: impl Fn(&str) -> Result<Vec<u8>>) -> Result<Identity> {
    let text = |path| Ok::<_, Error>(String::from_utf8_lossy(&read(path)?).into_owned());
    resolve(words, &text("/etc/passwd")?, &text("/etc/group")?)
}

/// Resolves `words` (empty is root). A container without the files knows only numbers, and root.
fn resolve(words: &str, passwd: &str, group: &str) -> Result<Identity> {
    let (user_word, group_word) = match words.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (words, None),
    };
    let user_word = if user_word.is_empty() { "0" } else { user_word };
    let numeric = user_word.bytes().all(|byte| byte.is_ascii_digit());
    let uid = id(user_word);
    if numeric && uid.is_none() {
        return Err(invalid(format!("unable to find user {user_word}: uids run from 0 to 4294967294")));
    }
    let entry = passwd_lines(passwd).find(|line| match uid {
        Some(uid) => line.uid == uid,
        None => line.name == user_word,
    });
    let (uid, primary, name, home) = match (&entry, uid) {
        (Some(line), _) => (line.uid, line.gid, Some(line.name), line.home),
        (None, Some(uid)) => (uid, 0, None, ""),
        (None, None) if user_word == "root" => (0, 0, None, ""),
        (None, None) => {
            return Err(invalid(format!(
                "unable to find user {user_word}: no matching entries in passwd file"
            )));
        }
    };
    let gid = group_word.map_or(Ok(primary), |word| resolve_group(word, group))?;
    let additional_gids = match name {
        // A group named explicitly replaces the user's own memberships, as Docker does.
        Some(name) if group_word.is_none() => memberships(name, group),
        _ => Vec::new(),
    };
    let home = if home.is_empty() { if uid == 0 { "/root" } else { "/" } } else { home };
    let user = spec::User { uid, gid, umask: None, additional_gids: with_primary(gid, additional_gids) };
    Ok(Identity { user, home: home.to_owned() })
}

fn resolve_group(word: &str, file: &str) -> Result<u32> {
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return id(word)
            .ok_or_else(|| invalid(format!("unable to find group {word}: gids run from 0 to 4294967294")));
    }
    group_lines(file)
        .find(|line| line.name == word)
        .map(|line| line.gid)
        .ok_or_else(|| invalid(format!("unable to find group {word}: no matching entries in group file")))
}

fn memberships(name: &str, file: &str) -> Vec<u32> {
    group_lines(file)
        .filter(|line| line.members.split(',').any(|member| member == name))
        .map(|line| line.gid)
        .collect()
}

/// The primary group is a supplementary one too, so that negative group permissions hold (CVE-2022-36109).
fn with_primary(gid: u32, others: Vec<u32>) -> Vec<u32> {
    let mut gids = vec![gid];
    for other in others {
        if !gids.contains(&other) {
            gids.push(other);
        }
    }
    gids
}

fn invalid(message: String) -> Error {
    Error::new(Kind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\r\nweb:x:33:34::/srv:/bin/sh\n123:x:0:0::/evil:\nbroken\n:x:0:0::/:\nneg:x:-1:0::/:\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,web\nvideo:x:44:web\n77:x:0:\n";

    fn ids(words: &str) -> Option<(u32, u32, Vec<u32>)> {
        resolve(words, PASSWD, GROUP).ok().map(|who| (who.user.uid, who.user.gid, who.user.additional_gids))
    }

    #[test]
    fn users_groups_and_memberships() {
        assert_eq!(ids(""), Some((0, 0, vec![0, 10])));
        assert_eq!(ids("root:"), Some((0, 0, vec![0, 10])));
        assert_eq!(ids("web"), Some((33, 34, vec![34, 10, 44])));
        assert_eq!(ids("33"), Some((33, 34, vec![34, 10, 44])));
        assert_eq!(ids("web:video"), Some((33, 44, vec![44])));
        assert_eq!(ids("web:5"), Some((33, 5, vec![5])));
        assert_eq!(ids("1000"), Some((1000, 0, vec![0])));
        assert_eq!(ids(":1"), Some((0, 1, vec![1])));
        assert_eq!(resolve("web", PASSWD, GROUP).unwrap().home, "/srv");
        assert_eq!(resolve("root", "", "").unwrap().home, "/root");
    }

    type Who = Option<(u32, u32, &'static [u32])>;
    const ROOT: Who = Some((0, 0, &[0, 10]));
    const WEB: Who = Some((33, 34, &[34, 10, 44]));

    /// S-104: strings of an image's `USER` and of `--user`, and who they are.
    const STRINGS: &[(&str, Who)] = &[
        ("", ROOT),
        (":", ROOT),
        ("0", ROOT),
        ("00", ROOT),
        ("000000000000", ROOT),
        ("0:", ROOT),
        ("root", ROOT),
        ("root:", ROOT),
        ("root:root", Some((0, 0, &[0]))),
        ("0:0", Some((0, 0, &[0]))),
        (":0", Some((0, 0, &[0]))),
        (":root", Some((0, 0, &[0]))),
        ("web", WEB),
        ("33", WEB),
        ("033", WEB),
        ("web:web", None),
        ("web:0", Some((33, 0, &[0]))),
        ("web:00", Some((33, 0, &[0]))),
        ("1", Some((1, 0, &[0]))),
        ("01", Some((1, 0, &[0]))),
        ("123", Some((123, 0, &[0]))),
        ("123:123", Some((123, 123, &[123]))),
        ("77:77", Some((77, 77, &[77]))),
        ("1000:wheel", Some((1000, 10, &[10]))),
        ("2147483647", Some((2_147_483_647, 0, &[0]))),
        ("2147483648", Some((2_147_483_648, 0, &[0]))),
        ("4294967294", Some((4_294_967_294, 0, &[0]))),
        ("0:4294967294", Some((0, 4_294_967_294, &[4_294_967_294]))),
        ("4294967295", None),
        ("4294967296", None),
        ("4294967297", None),
        ("8589934592", None),
        ("18446744073709551615", None),
        ("18446744073709551616", None),
        ("0:4294967295", None),
        ("0:4294967296", None),
        ("-0", None),
        ("-1", None),
        ("+0", None),
        ("+1", None),
        ("-4294967296", None),
        ("0:-1", None),
        ("0:+0", None),
        (" 0", None),
        ("0 ", None),
        ("\t0", None),
        ("0\n", None),
        ("root\n", None),
        ("root ", None),
        ("Root", None),
        ("web\nroot", None),
        ("0x0", None),
        ("0b0", None),
        ("0o0", None),
        ("1e3", None),
        ("0.0", None),
        ("1_000", None),
        ("1,000", None),
        ("1000:0x", None),
        ("1:2:3", None),
        ("root:root:root", None),
        ("::", None),
        ("x", None),
        ("nobody", None),
        ("neg", None),
        ("broken", None),
        ("٣", None),
        ("０", None),
        ("0\0", None),
        ("root\0", None),
        ("../root", None),
        ("root/0", None),
    ];

    #[test]
    fn every_string_is_somebody_or_nobody() {
        for (words, who) in STRINGS {
            assert_eq!(ids(words), who.map(|(uid, gid, groups)| (uid, gid, groups.to_vec())), "{words:?}");
        }
        assert_eq!(ids(&"9".repeat(10 << 20)), None);
        assert_eq!(ids(&"n".repeat(10 << 20)), None);
    }

    #[test]
    fn numbers_are_never_names_and_never_wrap() {
        assert_eq!(ids("123"), Some((123, 0, vec![0])));
        assert_eq!(ids("web:77"), Some((33, 77, vec![77])));
        for bad in [
            "-1",
            "+0",
            " 0",
            "4294967295",
            "4294967296",
            "99999999999999999999",
            "0x0",
            "1000:0x",
            "nobody",
            "web:none",
            "neg",
            "٣",
        ] {
            assert_eq!(ids(bad), None, "{bad}");
        }
    }
}

//! Images and root file systems for the tests, made byte by byte so that they can also be wrong on purpose.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A tar archive in the making (ustar). Names and link targets are taken as they are.
#[derive(Debug, Clone, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// A regular file of root's.
    #[must_use]
    pub fn file(self, name: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.entry(name, b'0', mode, "", content.as_ref())
    }

    /// A directory of root's.
    #[must_use]
    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(name, b'5', mode, "", b"")
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, b'2', 0o777, target, b"")
    }

    /// A named pipe.
    #[must_use]
    pub fn pipe(self, name: &str) -> Self {
        self.entry(name, b'6', 0o666, "", b"")
    }

    /// A hard link to an entry with this mode, as tar repeats it.
    #[must_use]
    pub fn link(self, name: &str, mode: u32, target: &str) -> Self {
        self.entry(name, b'1', mode, target, b"")
    }

    fn entry(mut self, name: &str, kind: u8, mode: u32, link: &str, content: &[u8]) -> Self {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(157, link);
        put(257, "ustar\x0000");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// The archive.
    #[must_use]
    pub fn bytes(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// An image: layers, lowest first, and the `config` part of its configuration.
#[derive(Debug, Clone)]
pub struct Image {
    /// Uncompressed archives.
    pub layers: Vec<Vec<u8>>,
    /// `Env`, `Cmd`, ….
    pub config: Value,
    /// What the configuration says of the layers, if not the truth.
    pub diff_ids: Option<Vec<String>>,
}

impl Image {
    /// Of one layer.
    pub fn new(layer: Tar, config: Value) -> Self {
        Self { layers: vec![layer.bytes()], config, diff_ids: None }
    }

    /// `busybox` and one layer more.
    pub fn on_busybox(layer: Tar, config: Value) -> Self {
        Self { layers: vec![busybox_rootfs().bytes(), layer.bytes()], config, diff_ids: None }
    }

    /// As `docker save` writes it.
    pub fn docker_archive(&self, name: &str) -> Vec<u8> {
        let true_ids = || self.layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "created": "2024-01-02T03:04:05Z",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": self.diff_ids.clone().unwrap_or_else(true_ids) },
            "history": self.layers.iter().map(|_| json!({ "created_by": "e2e" })).collect::<Vec<_>>(),
        })
        .to_string();
        let config_name = format!("{}.json", sha256(config.as_bytes()));
        let names: Vec<String> =
            (0..self.layers.len()).map(|index| format!("layer{index}/layer.tar")).collect();
        let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": names }]).to_string();
        let mut tar = Tar::default().file(&config_name, 0o644, &config);
        for (name, layer) in names.iter().zip(&self.layers) {
            tar = tar.file(name, 0o644, layer);
        }
        tar.file("manifest.json", 0o644, manifest).bytes()
    }
}

/// Hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The test image: Debian's static busybox, a few users, a shell by default.
pub fn busybox() -> Image {
    Image::new(
        busybox_rootfs(),
        json!({ "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"] }),
    )
}

/// Its only layer. `alice` is also in the groups `staff` and `audio`.
pub fn busybox_rootfs() -> Tar {
    let program = fs::read("/bin/busybox").expect("read /bin/busybox (package busybox-static)");
    let applets = Command::new("/bin/busybox").arg("--list").output().expect("run /bin/busybox");
    let mut tar = Tar::default()
        .dir("bin/", 0o755)
        .file("bin/busybox", 0o755, program)
        .dir("etc/", 0o755)
        .file(
            "etc/passwd",
            0o644,
            "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n",
        )
        .file(
            "etc/group",
            0o644,
            "root:x:0:\nalice:x:1000:\nstaff:x:50:bob,alice\naudio:x:63:alice\ngames:x:60:\n",
        )
        .dir("home/", 0o755)
        .dir("root/", 0o700)
        .dir("tmp/", 0o1777)
        .file("etc/plain", 0o644, "not a program\n");
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
        tar = tar.link(&format!("bin/{applet}"), 0o755, "bin/busybox");
    }
    tar
}

/// An archive of a minimal Debian, made once for a target directory, from the mirror that apt uses.
pub fn debian_rootfs() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let exe = env::current_exe().expect("know the own program");
    let cache = exe.ancestors().nth(2).unwrap_or(Path::new("/tmp")).join("e2e-debian.tar");
    if !cache.exists() {
        let making = cache.with_extension(format!("{}", std::process::id()));
        let made = Command::new("sh").args(["-euc", BOOTSTRAP, "sh"]).arg(&making).output().expect("run sh");
        assert!(made.status.success(), "make a Debian: {}", String::from_utf8_lossy(&made.stderr));
        fs::rename(&making, &cache).expect("keep the Debian");
    }
    cache
}

const BOOTSTRAP: &str = r#"
set -- "$1" $(apt-get indextargets --format '$(SITE) $(RELEASE) $(ORIGIN)' "Created-By: Packages" | grep ' Debian$' | grep -v -e -security -e -updates -e -backports | head -n1)
dir=$(mktemp -d)
trap 'rm -rf --one-file-system "$dir"' EXIT
debootstrap --variant=minbase "$3" "$dir" "$2" >"$dir.log" 2>&1 || { tail -n 5 "$dir.log" >&2; exit 1; }
rm "$dir.log"
rm -rf "$dir"/var/cache/apt/archives/*.deb
tar -C "$dir" --numeric-owner --xattrs -cf "$1" .
"#;

//! `inspect`, `version`, `info`, and the API's own manners.

use e2e::{Client, any_client, each_client};
use serde_json::{Value, json};

each_client![a_running_one, an_ended_one, what_was_asked_for, formats, version_and_info, unknown_ones];
any_client![ping_and_negotiation, errors_have_dockers_form];

#[track_caller]
fn assert_fields(all: &Value, fields: &[(&str, Value)]) {
    for (pointer, expected) in fields {
        assert_eq!(all.pointer(pointer), Some(expected), "{pointer} in {all:#}");
    }
}

fn a_running_one(c: &Client) {
    let name = c.name("seen");
    let id = c.start(&format!("--name {name} --network none busybox sleep 100"));
    let all = c.inspect(&id);
    assert_fields(
        &all,
        &[
            ("/Id", json!(id)),
            ("/Name", json!(format!("/{name}"))),
            ("/Path", json!("sleep")),
            ("/Args", json!(["100"])),
            ("/Driver", json!(if c.is_knarr_engine() { "overlay" } else { "overlay2" })),
            ("/GraphDriver/Name", json!(if c.is_knarr_engine() { "overlay" } else { "overlay2" })),
            ("/RestartCount", json!(0)),
            ("/Platform", json!("linux")),
            ("/ExecIDs", json!(null)),
            ("/Mounts", json!([])),
            ("/State/Status", json!("running")),
            ("/State/Running", json!(true)),
            ("/State/Paused", json!(false)),
            ("/State/Restarting", json!(false)),
            ("/State/OOMKilled", json!(false)),
            ("/State/Dead", json!(false)),
            ("/State/ExitCode", json!(0)),
            ("/State/Error", json!("")),
            ("/State/FinishedAt", json!("0001-01-01T00:00:00Z")),
            ("/Config/Image", json!("busybox")),
            ("/Config/Cmd", json!(["sleep", "100"])),
            ("/Config/Entrypoint", json!(null)),
            ("/Config/Tty", json!(false)),
            ("/Config/OpenStdin", json!(false)),
            ("/Config/Hostname", json!(id[..12])),
            ("/Config/WorkingDir", json!("")),
            ("/Config/User", json!("")),
            ("/Config/Labels", json!({})),
            ("/Config/Volumes", json!(null)),
            ("/HostConfig/NetworkMode", json!("none")),
            ("/HostConfig/AutoRemove", json!(false)),
            ("/HostConfig/Privileged", json!(false)),
            ("/HostConfig/ReadonlyRootfs", json!(false)),
            ("/HostConfig/Binds", json!(null)),
            ("/HostConfig/Memory", json!(0)),
            ("/HostConfig/NanoCpus", json!(0)),
            ("/HostConfig/RestartPolicy/Name", json!("no")),
            ("/HostConfig/LogConfig/Type", json!("json-file")),
            ("/HostConfig/ShmSize", json!(67_108_864)),
            ("/HostConfig/IpcMode", json!("private")),
            ("/NetworkSettings/Ports", json!({})),
        ],
    );
    assert!(all["Created"].as_str().is_some_and(|time| time.ends_with('Z')), "{all:#}");
    assert!(all["State"]["StartedAt"].as_str().is_some_and(|time| time.starts_with("20")), "{all:#}");
    assert!(all["Image"].as_str().is_some_and(|image| image.starts_with("sha256:")), "{all:#}");
    assert_eq!(all["NetworkSettings"]["Networks"].as_object().map(|all| all.keys().cloned().collect()), Some(vec!["none".to_owned()]));
    for pointer in ["/HostnamePath", "/HostsPath", "/ResolvConfPath", "/LogPath"] {
        let path = all.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        assert!(std::path::Path::new(path).is_file(), "{pointer} is {path:?}");
    }
    let pid = all["State"]["Pid"].as_u64().unwrap_or_default();
    assert_eq!(std::fs::read(format!("/proc/{pid}/cmdline")).expect("it runs"), b"sleep\x00100\0");
    c.run(&format!("rm -f {id}")).ok();
}

fn an_ended_one(c: &Client) {
    let id = c.start("busybox sh -c 'sleep 0.1; exit 6'");
    c.run(&format!("wait {id}")).ok();
    let all = c.inspect(&id);
    let fields = [
        ("/State/Status", json!("exited")),
        ("/State/Running", json!(false)),
        ("/State/Pid", json!(0)),
        ("/State/ExitCode", json!(6)),
    ];
    assert_fields(&all, &fields);
    assert!(all["State"]["FinishedAt"].as_str() > all["State"]["StartedAt"].as_str(), "{all:#}");
    c.run(&format!("rm {id}")).ok();
}

fn what_was_asked_for(c: &Client) {
    let id = c
        .run("create -i -t -m 64m --memory-swap 128m --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --pids-limit 50 \
              --hostname h -w /tmp -u alice -e A=b --entrypoint sh --init --read-only --tmpfs /scratch:size=1m \
              -v /etc/hostname:/mnt/x:ro --rm --stop-signal INT --stop-timeout 3 busybox -c true")
        .ok()
        .line();
    let fields = [
        ("/State/Status", json!("created")),
        ("/State/StartedAt", json!("0001-01-01T00:00:00Z")),
        ("/Path", json!("sh")),
        ("/Args", json!(["-c", "true"])),
        ("/Config/Tty", json!(true)),
        ("/Config/OpenStdin", json!(true)),
        ("/Config/StdinOnce", json!(true)),
        ("/Config/Hostname", json!("h")),
        ("/Config/WorkingDir", json!("/tmp")),
        ("/Config/User", json!("alice")),
        ("/Config/Env/0", json!("A=b")),
        ("/Config/Entrypoint", json!(["sh"])),
        ("/Config/Cmd", json!(["-c", "true"])),
        ("/Config/StopSignal", json!("INT")),
        ("/Config/StopTimeout", json!(3)),
        ("/HostConfig/Memory", json!(64 << 20)),
        ("/HostConfig/MemorySwap", json!(128 << 20)),
        ("/HostConfig/NanoCpus", json!(500_000_000)),
        ("/HostConfig/CpuShares", json!(512)),
        ("/HostConfig/CpusetCpus", json!("0")),
        ("/HostConfig/PidsLimit", json!(50)),
        ("/HostConfig/Init", json!(true)),
        ("/HostConfig/ReadonlyRootfs", json!(true)),
        ("/HostConfig/AutoRemove", json!(true)),
        ("/HostConfig/Tmpfs", json!({ "/scratch": "size=1m" })),
        ("/HostConfig/Binds", json!(["/etc/hostname:/mnt/x:ro"])),
        ("/Mounts/0/Type", json!("bind")),
        ("/Mounts/0/Source", json!("/etc/hostname")),
        ("/Mounts/0/Destination", json!("/mnt/x")),
        ("/Mounts/0/RW", json!(false)),
        ("/Mounts/0/Mode", json!("ro")),
    ];
    assert_fields(&c.inspect(&id), &fields);
    c.run(&format!("rm {id}")).ok();
}

fn formats(c: &Client) {
    let id = c.run("create -e A=b busybox true").ok().line();
    c.run(&format!("inspect --format '{{{{.State.Status}}}} {{{{.Config.Image}}}}' {id}")).ok().out("created busybox\n");
    c.run(&format!("inspect -f '{{{{json .Config.Cmd}}}}' {id}")).ok().out("[\"true\"]\n");
    c.run(&format!("inspect -f '{{{{range .Config.Env}}}}[{{{{.}}}}]{{{{end}}}}' {id}")).ok().out_has("[A=b]");
    c.run(&format!("inspect -f '{{{{.Nonsense}}}}' {id}")).fails().err_has("Nonsense");
    c.run(&format!("rm {id}")).ok();
}

fn version_and_info(c: &Client) {
    c.run("version").ok().out_has("Client").out_has("Server").out_has("API version").out_has("linux/");
    let info = c.run("info --format json").ok().json();
    assert_eq!(info["DockerRootDir"], c.engine().data_root().display().to_string());
    assert_eq!(info["OSType"], "linux");
    assert_eq!(info["CgroupDriver"], "cgroupfs");
    assert!(info["ID"].as_str().is_some_and(|id| !id.is_empty()), "{info:#}");
    assert!(info["NCPU"].as_u64() > Some(0) && info["MemTotal"].as_u64() > Some(0), "{info:#}");
    c.run("info").ok().out_has("Server:").out_has("Containers:").out_has("Storage Driver:");
}

fn unknown_ones(c: &Client) {
    c.run("inspect nobody-here").code(1).has("nobody-here");
    let id = c.run("create busybox").ok().line();
    c.run(&format!("inspect {id} nobody-here")).code(1).out_has(&id).err_has("nobody-here");
    c.run(&format!("rm {id}")).ok();
}

fn ping_and_negotiation(c: &Client) {
    let engine = c.engine();
    assert_eq!(engine.get("/_ping").expect("answer").1, "OK");
    let version = engine.get("/version").expect("answer").1;
    assert!(version["ApiVersion"].as_str() >= Some("1.41"), "{version:#}");
    assert!(version["MinAPIVersion"].is_string(), "{version:#}");
    assert_eq!(engine.get("/v1.41/version").expect("answer").0, 200);
    let (status, body) = engine.get("/v9.99/version").expect("answer");
    assert_eq!(status, 400, "{body}");
    assert!(body["message"].as_str().is_some_and(|text| text.contains("client version 9.99 is too new")), "{body}");
}

fn errors_have_dockers_form(c: &Client) {
    let engine = c.engine();
    let (status, body) = engine.get("/v1.41/containers/nobody-here/json").expect("answer");
    assert_eq!((status, body), (404, json!({ "message": "No such container: nobody-here" })));
    let (status, body) = engine.get("/v1.41/no/such/page").expect("answer");
    assert_eq!((status, body), (404, json!({ "message": "page not found" })));
    let (status, body) = engine.request("POST", "/v1.41/containers/create", "{nonsense").expect("answer");
    // 20.10 still called this its own failure.
    assert_eq!(status, if c.is_knarr_engine() { 400 } else { 500 }, "{body}");
    assert!(body["message"].is_string(), "{body}");
    let (status, body) = engine.request("POST", "/v1.41/containers/create", r#"{"Image":"no-such-image"}"#).expect("answer");
    assert_eq!((status, body), (404, json!({ "message": "No such image: no-such-image:latest" })));
    let id = c.start("busybox sleep 100");
    assert_eq!(engine.request("POST", &format!("/v1.41/containers/{id}/start"), "").expect("answer").0, 304);
    assert_eq!(engine.request("DELETE", &format!("/v1.41/containers/{id}"), "").expect("answer").0, 409);
    assert_eq!(engine.request("DELETE", &format!("/v1.41/containers/{id}?force=1"), "").expect("answer").0, 204);
}

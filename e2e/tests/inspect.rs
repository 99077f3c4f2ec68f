//! `inspect`, `version`, `info`, and the API's own manners.

use e2e::{Client, any_client, each_client};
use serde_json::{Value, json};

each_client![a_running_one, an_ended_one, what_was_asked_for, formats, version_and_info, unknown_ones];
any_client![ping_and_negotiation, errors_have_dockers_form];

#[track_caller]
fn assert_fields(all: &Value, fields: &Value) {
    for (pointer, expected) in fields.as_object().expect("fields by their pointers") {
        assert_eq!(all.pointer(pointer), Some(expected), "{pointer} in {all:#}");
    }
}

/// What `run -d --network none busybox sleep 100` looks like.
fn expected_of_a_running_one(id: &str, name: &str) -> Value {
    json!({
        "/Id": id,
        "/Name": format!("/{name}"),
        "/Path": "sleep",
        "/Args": ["100"],
        "/Driver": "overlay2",
        "/GraphDriver/Name": "overlay2",
        "/RestartCount": 0,
        "/Platform": "linux",
        "/ExecIDs": null,
        "/Mounts": [],
        "/State/Status": "running",
        "/State/Running": true,
        "/State/Paused": false,
        "/State/Restarting": false,
        "/State/OOMKilled": false,
        "/State/Dead": false,
        "/State/ExitCode": 0,
        "/State/Error": "",
        "/State/FinishedAt": "0001-01-01T00:00:00Z",
        "/Config/Image": "busybox",
        "/Config/Cmd": ["sleep", "100"],
        "/Config/Entrypoint": null,
        "/Config/Tty": false,
        "/Config/OpenStdin": false,
        "/Config/Hostname": id[..12],
        "/Config/WorkingDir": "",
        "/Config/User": "",
        "/Config/Labels": {},
        "/Config/Volumes": null,
        "/HostConfig/NetworkMode": "none",
        "/HostConfig/AutoRemove": false,
        "/HostConfig/Privileged": false,
        "/HostConfig/ReadonlyRootfs": false,
        "/HostConfig/Binds": null,
        "/HostConfig/Memory": 0,
        "/HostConfig/NanoCpus": 0,
        "/HostConfig/RestartPolicy/Name": "no",
        "/HostConfig/LogConfig/Type": "json-file",
        "/HostConfig/ShmSize": 67_108_864,
        "/HostConfig/IpcMode": "private",
        "/NetworkSettings/Ports": {},
    })
}

fn a_running_one(c: &Client) {
    let name = c.name("seen");
    let id = c.start(&format!("--name {name} --network none busybox sleep 100"));
    let all = c.inspect(&id);
    assert_fields(&all, &expected_of_a_running_one(&id, &name));
    assert!(all["Created"].as_str().is_some_and(|time| time.ends_with('Z')), "{all:#}");
    assert!(all["State"]["StartedAt"].as_str().is_some_and(|time| time.starts_with("20")), "{all:#}");
    assert!(all["Image"].as_str().is_some_and(|image| image.starts_with("sha256:")), "{all:#}");
    assert_eq!(
        all["NetworkSettings"]["Networks"].as_object().map(|all| all.keys().cloned().collect()),
        Some(vec!["none".to_owned()])
    );
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
    let fields = json!({
        "/State/Status": "exited",
        "/State/Running": false,
        "/State/Pid": 0,
        "/State/ExitCode": 6,
    });
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
    let fields = json!({
        "/State/Status": "created",
        "/State/StartedAt": "0001-01-01T00:00:00Z",
        "/Path": "sh",
        "/Args": ["-c", "true"],
        "/Config/Tty": true,
        "/Config/OpenStdin": true,
        "/Config/StdinOnce": true,
        "/Config/Hostname": "h",
        "/Config/WorkingDir": "/tmp",
        "/Config/User": "alice",
        "/Config/Env/0": "A=b",
        "/Config/Entrypoint": ["sh"],
        "/Config/Cmd": ["-c", "true"],
        "/Config/StopSignal": "INT",
        "/Config/StopTimeout": 3,
        "/HostConfig/Memory": 64 << 20,
        "/HostConfig/MemorySwap": 128 << 20,
        "/HostConfig/NanoCpus": 500_000_000,
        "/HostConfig/CpuShares": 512,
        "/HostConfig/CpusetCpus": "0",
        "/HostConfig/PidsLimit": 50,
        "/HostConfig/Init": true,
        "/HostConfig/ReadonlyRootfs": true,
        "/HostConfig/AutoRemove": true,
        "/HostConfig/Tmpfs": { "/scratch": "size=1m" },
        "/HostConfig/Binds": ["/etc/hostname:/mnt/x:ro"],
        "/Mounts/0/Type": "bind",
        "/Mounts/0/Source": "/etc/hostname",
        "/Mounts/0/Destination": "/mnt/x",
        "/Mounts/0/RW": false,
        "/Mounts/0/Mode": "ro",
    });
    assert_fields(&c.inspect(&id), &fields);
    c.run(&format!("rm {id}")).ok();
}

fn formats(c: &Client) {
    let id = c.run("create -e A=b busybox true").ok().line();
    c.run(&format!("inspect --format '{{{{.State.Status}}}} {{{{.Config.Image}}}}' {id}"))
        .ok()
        .out("created busybox\n");
    c.run(&format!("inspect -f '{{{{json .Config.Cmd}}}}' {id}")).ok().out("[\"true\"]\n");
    c.run(&format!("inspect -f '{{{{range .Config.Env}}}}[{{{{.}}}}]{{{{end}}}}' {id}"))
        .ok()
        .out_has("[A=b]");
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
    assert!(
        body["message"].as_str().is_some_and(|text| text.contains("client version 9.99 is too new")),
        "{body}"
    );
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
    let (status, body) =
        engine.request("POST", "/v1.41/containers/create", r#"{"Image":"no-such-image"}"#).expect("answer");
    assert_eq!((status, body), (404, json!({ "message": "No such image: no-such-image:latest" })));
    let id = c.start("busybox sleep 100");
    assert_eq!(engine.request("POST", &format!("/v1.41/containers/{id}/start"), "").expect("answer").0, 304);
    assert_eq!(engine.request("DELETE", &format!("/v1.41/containers/{id}"), "").expect("answer").0, 409);
    assert_eq!(
        engine.request("DELETE", &format!("/v1.41/containers/{id}?force=1"), "").expect("answer").0,
        204
    );
}

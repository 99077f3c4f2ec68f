//! What dockerd 20.10 answered (API 1.41) comes out as it went in: every member known, every null, empty and
//! missing one as Docker has it.

#![allow(clippy::unwrap_used)]

use api::{Op, Version, container, create, exec, go, image, message, system, version};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

fn round_trip<T: Serialize + DeserializeOwned>(op: Op, text: &str) {
    let typed: T = go::decode(text.as_bytes()).unwrap();
    let mut ours = serde_json::to_value(typed).unwrap();
    version::adapt(op, Version(1, 41), &mut ours);
    let theirs: Value = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string_pretty(&ours).unwrap(), serde_json::to_string_pretty(&theirs).unwrap());
}

#[test]
fn containers() {
    round_trip::<container::Inspect>(Op::ContainerInspect, include_str!("golden/inspect.json"));
    round_trip::<Vec<container::Summary>>(Op::ContainerList, include_str!("golden/ps.json"));
    round_trip::<container::Top>(Op::ContainerTop, include_str!("golden/top.json"));
    round_trip::<container::Wait>(Op::ContainerWait, r#"{"Error":null,"StatusCode":0}"#);
    round_trip::<create::CreateResponse>(Op::ContainerCreate, r#"{"Id":"ab","Warnings":[]}"#);
    round_trip::<exec::ExecInspect>(Op::ExecInspect, include_str!("golden/exec.json"));
}

#[test]
fn images() {
    round_trip::<Vec<image::Summary>>(Op::ImageList, include_str!("golden/images.json"));
    round_trip::<image::Inspect>(Op::ImageInspect, include_str!("golden/image.json"));
    round_trip::<Vec<image::History>>(Op::ImageHistory, include_str!("golden/history.json"));
    round_trip::<Vec<image::Deleted>>(Op::ImageDelete, r#"[{"Untagged":"x:1"},{"Deleted":"sha256:5"}]"#);
}

#[test]
fn the_engine() {
    round_trip::<system::Version>(Op::SystemVersion, include_str!("golden/version.json"));
    round_trip::<Vec<api::network::Network>>(Op::NetworkList, include_str!("golden/networks.json"));
    round_trip::<system::Volumes>(Op::VolumeList, include_str!("golden/volumes.json"));
    for line in include_str!("golden/events.jsonl").lines() {
        round_trip::<message::Event>(Op::SystemEvents, line);
    }
    round_trip::<message::Progress>(Op::ImageLoad, r#"{"errorDetail":{"message":"x"},"error":"x"}"#);
}

/// Facts that only a kernel before 5.16 or a firewall has are answered with "no".
#[test]
fn info() {
    let text = include_str!("golden/info.json");
    let typed: system::Info = go::decode(text.as_bytes()).unwrap();
    let mut ours = serde_json::to_value(typed).unwrap();
    version::adapt(Op::SystemInfo, Version(1, 41), &mut ours);
    let mut theirs: Value = serde_json::from_str(text).unwrap();
    for fact in ["KernelMemory", "KernelMemoryTCP", "BridgeNfIptables", "BridgeNfIp6tables"] {
        theirs[fact] = false.into();
    }
    assert_eq!(ours, theirs);
}

#[test]
fn what_docker_clients_send_is_read_whole() {
    for (text, ours_only) in [
        (include_str!("golden/create-docker-20.json"), &["KernelMemory", "KernelMemoryTCP"][..]),
        (include_str!("golden/create-docker-28.json"), &[]),
    ] {
        let request = create::CreateRequest::decode(text.as_bytes()).unwrap();
        let ours = serde_json::to_value(&request).unwrap();
        let mut theirs: Value = serde_json::from_str(text).unwrap();
        for name in ours_only {
            theirs["HostConfig"].as_object_mut().unwrap().remove(*name);
        }
        assert_eq!(ours, theirs);
        assert_eq!(request.config.cmd.unwrap().0, ["sleep", "1000"]);
    }
}

#[test]
fn leniency_reaches_every_depth() {
    let request = create::CreateRequest::decode(
        br#"{"image":"bb","Cmd":"echo x","entrypoint":null,"hostconfig":{"Privileged":false,"privileged":true,
            "mounts":[{"type":"bind","bindoptions":{"propagation":"shared"}}],"Unknown":{}}}"#,
    )
    .unwrap();
    assert_eq!(request.config.cmd.unwrap().0, ["echo x"]);
    assert!(request.host_config.privileged);
    let mount = &request.host_config.mounts.unwrap()[0];
    assert_eq!(mount.bind_options.as_ref().unwrap().propagation, "shared");
}

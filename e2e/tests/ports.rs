//! Published ports: what `-p` may say, who is answered, who is refused.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use e2e::{Client, each_client, until};

each_client![
    a_port_answers_until_its_container_ends,
    an_address_that_is_used_again_is_found,
    every_form_of_publish,
    ranges_and_any_port,
    ipv6_is_published,
    udp_is_published,
    exposed_ports_are_published_on_demand,
    a_port_belongs_to_one,
    a_port_of_loopback_is_not_others,
    containers_reach_published_ports,
    ports_follow_the_container,
    mappings_are_listed,
    what_cannot_be_published_is_said,
];

/// The first of so many ports of the host that no other test uses.
fn ports<const COUNT: usize>() -> [u16; COUNT] {
    static NEXT: AtomicU16 = AtomicU16::new(18000);
    let first = NEXT.fetch_add(COUNT as u16, Ordering::Relaxed);
    std::array::from_fn(|number| first + number as u16)
}

/// A web server that says this.
fn serving(text: &str) -> String {
    format!(
        "busybox sh -c 'mkdir -p /www && echo {text} >/www/index.html && for p in 80 81; do httpd -p $p -h /www; done; \
         exec sleep 1000'"
    )
}

/// What a web server in the daemon's network says; nothing, if none answers.
fn fetch(c: &Client, address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().expect("an address");
    c.engine().within(|| {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.trim_end().to_owned())
    })
}

/// A command for a container: says what a web server says, or `nothing`.
fn asking(host: &str, port: u16) -> String {
    let ask = format!(r#"printf "GET / HTTP/1.0\r\n\r\n" | nc -w 2 {host} {port} >/tmp/answer"#);
    format!("sh -c '{ask}; tail -n 1 /tmp/answer | grep . || echo nothing'")
}

#[track_caller]
fn answers(c: &Client, address: &str, text: &str) {
    until(&format!("{address} says {text:?}"), || fetch(c, address).as_deref() == Some(text));
}

/// Whether a program in the daemon's network could have that port.
fn is_free(c: &Client, address: &str) -> bool {
    c.engine().within(|| TcpListener::bind(address).is_ok())
}

/// The address of the host in the default network.
fn gateway(c: &Client, container: &str) -> String {
    let gateway = c.field(container, "/NetworkSettings/Gateway");
    gateway.as_str().expect("a gateway").to_owned()
}

fn a_port_answers_until_its_container_ends(c: &Client) {
    let [port] = ports();
    let web = c.start(&format!("-p {port}:80 {}", serving("here")));
    let address = format!("127.0.0.1:{port}");
    answers(c, &address, "here");
    answers(c, &format!("{}:{port}", gateway(c, &web)), "here");
    c.run(&format!("stop -t 0 {web}")).ok();
    assert_eq!(fetch(c, &address), None);
    assert!(is_free(c, &address));
    c.run(&format!("port {web}")).ok().out("");
    c.run(&format!("start {web}")).ok();
    answers(c, &address, "here");
    c.run(&format!("rm -f {web}")).ok();
    assert_eq!(fetch(c, &address), None);
    assert!(is_free(c, &address));
}

/// Who comes after somebody with the same address is found at once: nobody sends to the one before.
fn an_address_that_is_used_again_is_found(c: &Client) {
    let [port] = ports();
    let network = c.name("again");
    c.run(&format!("network create {network}")).ok();
    // What docker's client says of a place in a network, Docker 20.10 does not understand.
    let mac = if c.is_knarr_engine() { "--mac-address 02:00:00:00:00:07" } else { "" };
    for mac in ["", mac, ""] {
        let web = c.start(&format!("--network {network} {mac} -p {port}:80 {}", serving("again")));
        let started = Instant::now();
        answers(c, &format!("127.0.0.1:{port}"), "again");
        assert!(started.elapsed() < Duration::from_secs(2), "found after {:?}", started.elapsed());
        c.run(&format!("rm -f {web}")).ok();
    }
    c.run(&format!("network rm {network}")).ok();
}

fn every_form_of_publish(c: &Client) {
    let [one, two, three, four] = ports();
    let flags = format!(
        "-p 80 -p {one}:80 -p 127.0.0.1:{two}:80 -p 127.0.0.1::81 -p published={three},target=81 -p {four}:80/tcp"
    );
    let web = c.start(&format!("{flags} {}", serving("formal")));
    for port in [one, two, three, four] {
        answers(c, &format!("127.0.0.1:{port}"), "formal");
    }
    let of_81 = c.run(&format!("port {web} 81")).ok().lines();
    let any = of_81.iter().find(|line| line.starts_with("127.0.0.1:")).expect("a port on loopback");
    answers(c, any, "formal");
    c.run(&format!("rm -f {web}")).ok();
}

fn ranges_and_any_port(c: &Client) {
    let [one, two, three] = ports();
    let web = c.start(&format!("-p {one}-{two}:80-81 {}", serving("ranged")));
    answers(c, &format!("127.0.0.1:{one}"), "ranged");
    answers(c, &format!("127.0.0.1:{two}"), "ranged");
    // A range of the host for one port: the first that is free.
    let next = c.start(&format!("-p {one}-{three}:80 {}", serving("next")));
    let mapped = c.run(&format!("port {next} 80/tcp")).ok().lines();
    assert!(mapped[0].ends_with(&format!(":{three}")), "{mapped:?}");
    answers(c, &format!("127.0.0.1:{three}"), "next");
    c.run(&format!("run --rm -p {one}-{three}:80 busybox true")).code(125).err_has("all ports are allocated");
    c.run(&format!("rm -f {web} {next}")).ok();
}

fn ipv6_is_published(c: &Client) {
    if !c.is_knarr_engine() {
        eprintln!(
            "not tried: Docker 20.10 chooses no IPv6 subnet, and leads no port there without one more switch"
        );
        return;
    }
    let [port] = ports();
    let network = c.name("six");
    c.run(&format!("network create --ipv6 {network}")).ok();
    let web = c.start(&format!("--network {network} -p {port}:80 {}", serving("six")));
    let gateway = c.field(&web, &format!("/NetworkSettings/Networks/{network}/IPv6Gateway"));
    answers(c, &format!("[{}]:{port}", gateway.as_str().expect("a gateway")), "six");
    answers(c, &format!("127.0.0.1:{port}"), "six");
    c.run(&format!("port {web}")).ok().out(&format!("80/tcp -> 0.0.0.0:{port}\n80/tcp -> [::]:{port}\n"));
    // Refused, not silent: who tries localhost goes on to 127.0.0.1 at once.
    let refused = c.engine().within(|| TcpStream::connect(("::1", port)).map_err(|error| error.kind()));
    assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
    c.run(&format!("run --rm --network {network} -p [::1]:{port}:80 busybox true"))
        .code(125)
        .err_has("cannot publish on ::1");
    c.run(&format!("rm -f {web}")).ok();
    c.run(&format!("network rm {network}")).ok();
}

fn udp_is_published(c: &Client) {
    let [port] = ports();
    let served = c.start(&format!("-p {port}:53/udp busybox sleep 1000"));
    let namespace = fs::File::open(format!("/proc/{}/ns/net", c.pid(&served))).expect("it runs");
    let server = thread::spawn(move || {
        let network = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(namespace.as_fd(), network)
            .expect("enter the container's network");
        let socket = UdpSocket::bind("0.0.0.0:53").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        let (_, from) = socket.recv_from(&mut [0; 9]).expect("a question");
        socket.send_to(b"pong", from).expect("an answer");
    });
    let answered = || {
        c.engine().within(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket");
            let sent = socket.send_to(b"ping", ("127.0.0.1", port)).is_ok();
            sent && socket.recv(&mut [0; 9]).is_ok_and(|length| length == 4)
        })
    };
    until("an answer over UDP", answered);
    server.join().expect("the server");
    c.run(&format!("port {served} 53/udp")).ok().out_has(&format!("0.0.0.0:{port}\n"));
    c.run(&format!("port {served} 53")).fails().err_has("No public port '53' published for");
    c.run(&format!("rm -f {served}")).ok();
}

fn exposed_ports_are_published_on_demand(c: &Client) {
    let web = c.start(&format!("-P --expose 80-81 --expose 99/udp {}", serving("exposed")));
    for port in ["80", "81"] {
        let line = c.run(&format!("port {web} {port}")).ok().lines().remove(0);
        answers(c, &line.replace("0.0.0.0", "127.0.0.1"), "exposed");
    }
    c.run(&format!("port {web} 99/udp")).ok().out_has("0.0.0.0:");
    c.run(&format!("rm -f {web}")).ok();
    let silent = c.start(&format!("--expose 80 {}", serving("unpublished")));
    c.run(&format!("port {silent}")).ok().out("");
    c.run(&format!("ps --filter id={silent} --format {{{{.Ports}}}}")).ok().out("80/tcp\n");
    c.run(&format!("rm -f {silent}")).ok();
}

fn a_port_belongs_to_one(c: &Client) {
    let [port, other] = ports();
    let web = c.start(&format!("-p {port}:80 {}", serving("first")));
    let second = c.name("second");
    c.run(&format!("run -d --name {second} -p {port}:80 busybox true"))
        .code(125)
        .err_has(&format!("Bind for 0.0.0.0:{port} failed: port is already allocated"));
    // It was created, and can start as soon as the port is free.
    assert_eq!(c.field(&second, "/State/Status"), "created");
    // Docker's proxy has other words for it.
    c.run(&format!("run --rm -p 127.0.0.1:{port}:80 busybox true")).code(125).err_has("already");
    c.run(&format!("run --rm -p {port}:80/udp busybox true")).ok();
    answers(c, &format!("127.0.0.1:{port}"), "first");
    c.run(&format!("rm -f {web}")).ok();
    c.run(&format!("start {second}")).ok();
    c.run(&format!("rm -f {second}")).ok();
    let taken = c.engine().within(|| TcpListener::bind(("0.0.0.0", other)).expect("a port of the host"));
    c.run(&format!("run --rm -p {other}:80 busybox true")).code(125).err_has("address already in use");
    drop(taken);
    c.run(&format!("run --rm -p {other}:80 busybox true")).ok();
}

fn a_port_of_loopback_is_not_others(c: &Client) {
    let [port] = ports();
    let web = c.start(&format!("-p 127.0.0.1:{port}:80 {}", serving("private")));
    answers(c, &format!("127.0.0.1:{port}"), "private");
    let gateway = gateway(c, &web);
    assert_eq!(fetch(c, &format!("{gateway}:{port}")), None);
    c.run(&format!("run --rm busybox {}", asking(&gateway, port))).ok().out("nothing\n");
    c.run(&format!("rm -f {web}")).ok();
}

fn containers_reach_published_ports(c: &Client) {
    let [port] = ports();
    let other = c.name("other");
    c.run(&format!("network create {other}")).ok();
    let web = c.start(&format!("-p {port}:80 {}", serving("hairpin")));
    answers(c, &format!("127.0.0.1:{port}"), "hairpin");
    let ask = asking(&gateway(c, &web), port);
    c.run(&format!("run --rm busybox {ask}")).ok().out("hairpin\n");
    c.run(&format!("run --rm --network {other} busybox {ask}")).ok().out("hairpin\n");
    // Itself, by the way around.
    c.run(&format!("exec {web} {ask}")).ok().out("hairpin\n");
    c.run(&format!("rm -f {web}")).ok();
    c.run(&format!("network rm {other}")).ok();
}

fn ports_follow_the_container(c: &Client) {
    let [port] = ports();
    let (one, two) = (c.name("from"), c.name("to"));
    c.run(&format!("network create {one}")).ok();
    c.run(&format!("network create {two}")).ok();
    let web = c.start(&format!("--network {one} -p {port}:80 {}", serving("moved")));
    let address = format!("127.0.0.1:{port}");
    answers(c, &address, "moved");
    c.run(&format!("network disconnect {one} {web}")).ok();
    assert_eq!(fetch(c, &address), None);
    c.run(&format!("network connect {two} {web}")).ok();
    answers(c, &address, "moved");
    c.run(&format!("network connect {one} {web}")).ok();
    c.run(&format!("network disconnect {two} {web}")).ok();
    answers(c, &address, "moved");
    c.run(&format!("rm -f {web}")).ok();
    c.run(&format!("network rm {one} {two}")).ok();
}

fn mappings_are_listed(c: &Client) {
    let [p80, p81, p443, p53] = ports();
    let web = c.name("listed");
    let flags = format!(
        "-p 127.0.0.1:{p443}:443 -p 127.0.0.1:{p80}-{p81}:80-81 -p 127.0.0.1:{p53}:53/udp --name {web}"
    );
    c.start(&format!("{flags} busybox sleep 100"));
    c.run(&format!("port {web}")).ok().out(&format!(
        "53/udp -> 127.0.0.1:{p53}\n80/tcp -> 127.0.0.1:{p80}\n81/tcp -> 127.0.0.1:{p81}\n443/tcp -> 127.0.0.1:{p443}\n"
    ));
    c.run(&format!("port {web} 80")).ok().out(&format!("127.0.0.1:{p80}\n"));
    c.run(&format!("container port {web} 53/udp")).ok().out(&format!("127.0.0.1:{p53}\n"));
    c.run(&format!("port {web} 82")).code(1).err_has(&format!("No public port '82' published for {web}"));
    c.run(&format!("port {web} x")).code(1).err_has("invalid port");
    let listed = c.run(&format!("ps --filter name={web} --format '{{{{.Ports}}}} {{{{.Networks}}}}'")).ok();
    let shown = [(p53, "53/udp"), (p80, "80/tcp"), (p81, "81/tcp"), (p443, "443/tcp")];
    let shown = shown.map(|(port, inside)| format!("127.0.0.1:{port}->{inside}"));
    listed.out(&format!("{} bridge\n", shown.join(", ")));
    c.run(&format!("rm -f {web}")).ok();
}

fn what_cannot_be_published_is_said(c: &Client) {
    for (flag, words) in [
        ("-p x", "invalid containerPort: x"),
        ("-p 70000:80", "invalid hostPort: 70000"),
        ("-p 1-3:80-81", "invalid ranges specified for container and host Ports"),
        ("-p 80/quic", "invalid proto: quic"),
        ("-p here:1:80", "invalid IP address: here"),
        ("--expose 9-1", "invalid range format for --expose"),
        ("-p 192.0.2.1:18999:80", "cannot assign requested address"),
    ] {
        c.run(&format!("run --rm {flag} busybox true")).code(125).err_has(words);
    }
}

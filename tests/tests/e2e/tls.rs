//! Nobody in who doesn't belong: TLS on which both sides show a certificate (P10).

use std::{path::Path, process::Output};

use anyhow::{Context as _, Result, ensure};
use headpond_proto::v1::{
    AddMountRequest, Caller, KeepDirtyRequest, LeaveRequest, Mount, RegisterRequest, RemoveMountRequest,
    ResolveRequest, admin_service_client::AdminServiceClient, master_service_client::MasterServiceClient,
    registry_service_client::RegistryServiceClient, worker_service_client::WorkerServiceClient,
};
use headpond_tests::{
    Authority, Cluster, Command, Issued, Mounted, Process, eventually, free_port, headpond_binary, new_folder, noise,
};
use tempfile::TempDir;
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use crate::lake::Lake;

const NODE: &str = "headpond://node";
const ADA: &str = "headpond://user/ada?uid=4242&gid=4243";
const MIB: usize = 1 << 20;

/// A cluster whose parts and commands show the certificate of a node, and certificates of others.
struct Fortress {
    lake: Lake,
    cluster: Cluster,
    authority: Authority,
    folder: TempDir,
    node: Issued,
}

impl Fortress {
    fn of(workers: usize, objects: &[(String, bytes::Bytes)]) -> Result<Self> {
        let (folder, authority) = (new_folder()?, Authority::new()?);
        let node = authority.issue(folder.path(), "node", &[NODE])?;
        let lake = Lake::of(objects.iter().cloned())?;
        let environment = node.environment();
        let builder = lake.cluster().workers(workers).env("HEADPOND_LOG__LEVEL", "trace");
        let builder = environment.iter().fold(builder, |builder, (key, value)| builder.env(key, value));
        Ok(Self { cluster: builder.start()?, lake, authority, folder, node })
    }

    fn issue(&self, name: &str, uri: &str) -> Result<Issued> {
        self.authority.issue(self.folder.path(), name, &[uri])
    }

    /// A command with that certificate, or without TLS.
    fn command(&self, certificate: Option<&Issued>, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(headpond_binary()?);
        command.args(arguments).env("HEADPOND_MASTER", self.cluster.master());
        command.env("HEADPOND_CLIENT__NODE", "nowhere").env("HEADPOND_CLIENT__METADATA_TIMEOUT", "3s");
        if let Some(certificate) = certificate {
            command.envs(certificate.environment());
        }
        Ok(command)
    }

    fn run_as(&self, certificate: Option<&Issued>, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(certificate, arguments)?.output()?)
    }
}

fn holds(output: &Output, code: i32, says: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "ended with {} instead of {code}: {said}", output.status);
    ensure!(said.trim_end().lines().count() <= 1, "more than one line: {said}");
    for text in says {
        ensure!(said.contains(text), "{text:?} is not said: {said}");
    }
    Ok(())
}

/// A channel of another gRPC library's making, so to say: it knows nothing of what our client checks before it asks.
async fn stranger(address: &str, certificate: &Issued) -> Result<Channel> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(std::fs::read(&certificate.ca)?))
        .identity(Identity::from_pem(std::fs::read(&certificate.cert)?, std::fs::read(&certificate.key)?));
    Ok(Channel::from_shared(format!("https://{address}"))?.tls_config(tls)?.connect().await?)
}

fn denied<T: std::fmt::Debug>(what: &str, answer: Result<T, Status>) -> Result<()> {
    let status = answer.err().with_context(|| format!("{what} is allowed"))?;
    ensure!(status.code() == Code::PermissionDenied, "{what}: {status}");
    Ok(())
}

fn objects() -> Vec<(String, bytes::Bytes)> {
    let mut objects: Vec<_> = (0..8u64).map(|n| (format!("d/{n}"), noise(n, 300_000))).collect();
    objects.push(("big".to_owned(), noise(99, 70 * MIB + 5)));
    objects
}

#[test]
fn a_cluster_over_tls_reads_what_the_bucket_holds_cold_and_warm_and_tells_no_key() -> Result<()> {
    let objects = objects();
    let mut fortress = Fortress::of(2, &objects)?;
    let elsewhere = fortress.cluster.mount(9)?;
    let cluster = &fortress.cluster;
    for (pass, number) in [("cold", 0), ("warm", 0), ("without a worker", elsewhere)] {
        for (key, body) in &objects {
            ensure!(std::fs::read(cluster.path(number, key))? == body[..], "{key} differs, {pass}");
        }
    }
    let filled = |number: usize, source| cluster.workers[number].metric("headpond_worker_filled_bytes_total", source);
    ensure!(filled(0, "peer")? > 0.0, "worker 0 got nothing from the other: nothing went from worker to worker");
    let cat = cluster.run(&["fs", "cat", "--log-level", "trace", "/d/1"])?;
    ensure!(cat.status.success() && cat.stdout == objects[1].1[..], "{}", String::from_utf8_lossy(&cat.stderr));
    let sent = fortress.lake.proxy.sent();
    let bytes: usize = objects.iter().map(|(_, body)| body.len()).sum();
    ensure!(sent <= bytes as u64 * 11 / 10, "{bytes} bytes made the store send {sent}");

    let key = std::fs::read_to_string(&fortress.node.key)?;
    let key: Vec<_> = key.lines().filter(|line| !line.starts_with("-----")).collect();
    ensure!(key.len() > 1, "no key");
    let show = cluster_settings(&fortress.node)?;
    ensure!(show.contains("environment HEADPOND_TLS__KEY"), "{show}");
    let Cluster { master, workers, mounts, .. } = &mut fortress.cluster;
    for part in std::iter::once(master).chain(workers).chain(mounts) {
        part.stop()?;
        ensure!(part.output().contains("TRACE"), "the log is not that of level trace");
        for line in &key {
            ensure!(!part.output().contains(line), "a log holds the key");
        }
    }
    let errors = String::from_utf8_lossy(&cat.stderr);
    ensure!(!key.iter().any(|line| errors.contains(line) || show.contains(line)), "a command tells the key");
    Ok(())
}

fn cluster_settings(node: &Issued) -> Result<String> {
    let mut show = Command::new(headpond_binary()?);
    let output = show.args(["config", "show", "--for", "master"]).envs(node.environment()).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn nobody_gets_in_without_a_certificate_of_the_authority() -> Result<()> {
    let fortress = Fortress::of(1, &[("a".to_owned(), "1".into())])?;
    let (master, node) = (fortress.cluster.master(), &fortress.node);
    holds(&fortress.run_as(Some(node), &["fs", "ls", "/"])?, 0, &[])?;
    // Plaintext, and one whose authority is another: he does not trust the master.
    holds(&fortress.run_as(None, &["fs", "ls", "/"])?, 2, &[&master, "nothing but TLS", "[tls]"])?;
    let elsewhere = new_folder()?;
    let foreign = Authority::new()?.issue(elsewhere.path(), "foreign", &[NODE])?;
    holds(&fortress.run_as(Some(&foreign), &["fs", "ls", "/"])?, 7, &[&master, "cannot be trusted"])?;
    let mounted = Mounted::at(elsewhere.path().join("mount"))?;
    let mountpoint = mounted.path().display().to_string();
    for (certificate, code) in [(Some(&foreign), 7), (None, 2)] {
        let command = fortress.command(certificate, &["mount", &mountpoint, "--http-bind", "127.0.0.1:0"])?;
        let mut mount = Process::start("a mount that is refused", &command, &elsewhere.path().join("mount.log"))?;
        let (status, said) = (mount.wait()?, mount.output());
        ensure!(status.code() == Some(code) && said.contains(&master), "a mount: {status} {said}");
    }
    // Who trusts it all the same is not trusted.
    let sly = Issued { ca: node.ca.clone(), ..foreign };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(std::fs::read(&node.ca)?));
        let nameless = Channel::from_shared(format!("https://{master}"))?.tls_config(tls)?.connect_lazy();
        let worker = worker_address(&fortress)?;
        for channel in [Ok(nameless), stranger(&master, &sly).await, stranger(&worker, &sly).await] {
            // A handshake that failed is as good as a call that does.
            let Ok(channel) = channel else { continue };
            let resolve = ResolveRequest { path: b"/"[..].into(), caller: None, refresh: false };
            let answer = MasterServiceClient::new(channel).resolve(resolve).await;
            let status = answer.err().context("somebody got in")?;
            let answered = status.code() == Code::Unimplemented || status.metadata().contains_key("headpond-error");
            ensure!(!answered, "somebody got in: {status}");
        }
        anyhow::Ok(())
    })?;
    let log = fortress.cluster.master.output();
    ensure!(log.contains("the master refused 127.0.0.1:") && log.contains("it does not speak TLS"), "{log}");
    // A worker of a foreign authority says why it does not join, and does not join.
    let (log, bind) = (elsewhere.path().join("worker.log"), format!("127.0.0.1:{}", free_port()?));
    let mut command = Command::new(headpond_binary()?);
    command.args(["worker", "--http-bind", "127.0.0.1:0", "--bind", &bind, "--master", &master]);
    command.arg("--dir").arg(format!("{}=64MiB", elsewhere.path().join("cache").display()));
    command.envs(Authority::new()?.issue(elsewhere.path(), "worker", &[NODE])?.environment());
    let worker = Process::start("a foreign worker", &command, &log)?;
    eventually("the worker says why", || Ok(worker.output().contains("cannot be trusted")))?;
    ensure!(worker.output().contains(&master), "{}", worker.output());
    fortress.cluster.wait_workers(1)?;
    // A cluster without TLS and a client with it.
    let plain = fortress.lake.cluster().start()?;
    let output = fortress.run_as(Some(node), &["fs", "ls", "/", "--master", &plain.master()])?;
    holds(&output, 2, &[&plain.master(), "does not speak TLS"])
}

fn worker_address(fortress: &Fortress) -> Result<String> {
    let workers = fortress.run_as(Some(&fortress.node), &["admin", "workers", "-o", "json"])?;
    let first = String::from_utf8(workers.stdout)?.lines().next().context("no worker")?.to_owned();
    let worker: serde_json::Value = serde_json::from_str(&first)?;
    Ok(worker["address"].as_str().with_context(|| format!("no address in {first}"))?.to_owned())
}

#[test]
fn a_user_is_himself_and_changes_nothing_in_the_cluster() -> Result<()> {
    let fortress = Fortress::of(1, &[("a".to_owned(), "1".into())])?;
    let (ada, admin) = (fortress.issue("ada", ADA)?, fortress.issue("admin", "headpond://admin")?);
    let store = fortress.folder.path().join("closed");
    std::fs::create_dir(&store)?;
    std::fs::write(store.join("hers"), "2")?;
    let uri = format!("file://{}", store.display());
    let add = ["admin", "mount", "add", "/closed", &uri, "--uid", "1", "--gid", "1", "--dir-mode", "0700"];
    holds(&fortress.run_as(Some(&ada), &add)?, 7, &["user ada may not add mounts"])?;
    holds(&fortress.run_as(Some(&admin), &add)?, 0, &[])?;
    holds(&fortress.run_as(Some(&ada), &["admin", "mount", "remove", "/closed"])?, 7, &["ada may not remove mounts"])?;
    // The certificate decides, also for a process of root.
    holds(&fortress.run_as(Some(&ada), &["fs", "cat", "/a"])?, 0, &[])?;
    holds(&fortress.run_as(Some(&ada), &["fs", "ls", "/closed"])?, 7, &["4242"])?;
    holds(&fortress.run_as(Some(&admin), &["fs", "cat", "/closed/hers"])?, 0, &[])?;

    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let master = fortress.cluster.master();
        let as_ada = stranger(&master, &ada).await?;
        let mut namespace = MasterServiceClient::new(as_ada.clone());
        let mut resolve = async |uid: Option<u32>| {
            let caller = uid.map(|uid| Caller { uid, gids: vec![1] });
            let request = ResolveRequest { path: b"/closed/hers"[..].into(), caller, refresh: false };
            namespace.resolve(request).await.map(|_| ())
        };
        for (what, uid) in [("the operator", None), ("root", Some(0)), ("the owner", Some(1)), ("herself", Some(4242))]
        {
            denied(what, resolve(uid).await)?;
        }
        let mut administration = AdminServiceClient::new(as_ada.clone());
        let mount = Mount { path: b"/x"[..].into(), uri: uri.clone(), ..Mount::default() };
        let add = AddMountRequest { mount: Some(mount), request_id: vec![1; 16].into() };
        denied("adding a mount", administration.add_mount(add).await)?;
        let remove = RemoveMountRequest { path: b"/"[..].into(), request_id: vec![2; 16].into() };
        denied("removing a mount", administration.remove_mount(remove).await)?;
        let register =
            RegisterRequest { uuid: "u".to_owned(), address: "127.0.0.1:1".to_owned(), ..Default::default() };
        for (who, channel) in [("a user", as_ada), ("an admin", stranger(&master, &admin).await?)] {
            denied(who, RegistryServiceClient::new(channel).register(register.clone()).await)?;
        }
        let as_node = stranger(&master, &fortress.node).await?;
        let caller = Some(Caller { uid: 1, gids: vec![1] });
        let request = ResolveRequest { path: b"/closed/hers"[..].into(), caller, refresh: false };
        MasterServiceClient::new(as_node).resolve(request).await.context("a node speaks for its users")?;
        // Who has no role is nobody, on workers too.
        let nobody = fortress.authority.issue(fortress.folder.path(), "nobody", &[])?;
        let worker = stranger(&worker_address(&fortress)?, &nobody).await?;
        denied("a stranger's ping", WorkerServiceClient::new(worker).ping(headpond_proto::v1::PingRequest {}).await)
    })
}

#[test]
fn a_user_writes_as_himself_and_decides_nothing_for_others() -> Result<()> {
    let fortress = Fortress::of(2, &[("a".to_owned(), "1".into())])?;
    let ada = fortress.issue("ada", ADA)?;
    let (cluster, lake) = (&fortress.cluster, &fortress.lake);
    // From the mount of a node to a worker, and by a worker to the store.
    let body = noise(7, 20 * MIB);
    headpond_tests::write_and_close(&cluster.path(0, "through the mount"), &body)?;
    ensure!(lake.get("through the mount")? == body, "the object differs");

    let file = fortress.folder.path().join("hers");
    std::fs::write(&file, "2")?;
    let put = ["fs", "put", &file.display().to_string(), "/hers"];
    holds(&fortress.run_as(Some(&ada), &put)?, 7, &["4242"])?;
    std::fs::create_dir(cluster.path(0, "open"))?;
    std::fs::set_permissions(cluster.path(0, "open"), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let put = ["fs", "put", &file.display().to_string(), "/open/hers"];
    holds(&fortress.run_as(Some(&ada), &put)?, 0, &[])?;
    ensure!(lake.get("open/hers")? == "2", "the object differs");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(cluster.path(0, "open/hers"))?);
    ensure!(owner == 4242, "it is {owner}'s");
    holds(&fortress.run_as(Some(&ada), &["fs", "rm", "/a"])?, 7, &["4242"])?;
    holds(&fortress.run_as(Some(&ada), &["fs", "mv", "/a", "/open/a"])?, 7, &["4242"])?;
    ensure!(lake.get("a")? == "1", "it was changed all the same");
    holds(&fortress.run_as(Some(&ada), &["admin", "problems", "skip", "/a"])?, 7, &["ada may not resolve problems"])?;

    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut registry = RegistryServiceClient::new(stranger(&cluster.master(), &ada).await?);
        let keep = KeepDirtyRequest { worker: 1, epoch: 1, contents: Vec::new(), pressed: false };
        denied("a worker's question", registry.keep_dirty(keep).await)?;
        let leave = LeaveRequest { worker: 1, epoch: 1 };
        denied("sending a worker away", registry.leave(leave).await)
    })
}

#[test]
fn up_takes_the_same_settings_and_refuses_files_that_cannot_be_used() -> Result<()> {
    let (folder, authority) = (new_folder()?, Authority::new()?);
    let node = authority.issue(folder.path(), "node", &[NODE])?;
    let lake = Lake::of([("a", "1")])?;
    let tls = |flag: &str, path: &Path| [flag.to_owned(), path.display().to_string()];
    let flags = [tls("--tls-ca", &node.ca), tls("--tls-cert", &node.cert), tls("--tls-key", &node.key)];
    let builder = flags.as_flattened().iter().fold(lake.pond(), |builder, argument| builder.arg(argument));
    let pond = builder.start()?;
    ensure!(std::fs::read(pond.path("a"))? == b"1", "a differs");
    ensure!(pond.run(&["fs", "ls", "/"])?.status.code() == Some(2), "plaintext is taken");

    let other = authority.issue(folder.path(), "other", &[NODE])?;
    let expired = authority.issue_for(folder.path(), "expired", &[NODE], &["127.0.0.1"], true)?;
    let nowhere = folder.path().join("nowhere.pem");
    for (issued, says) in [
        (Issued { key: other.key.clone(), ..node.clone() }, &["other.key.pem", "not the key of the certificate"][..]),
        (Issued { ca: nowhere, ..node }, &["nowhere.pem", "cannot read tls.ca"]),
        (expired, &["expired.cert.pem", "has expired"]),
    ] {
        for command in ["master", "worker", "mount"] {
            let mut run = Command::new(headpond_binary()?);
            run.args([command, "--http-bind", "127.0.0.1:0"]).current_dir(folder.path()).envs(issued.environment());
            match command {
                "worker" => run.args(["--bind", "127.0.0.1:0", "--dir", "cache=64MiB"]),
                "mount" => run.arg(folder.path()),
                _ => run.args(["--bind", "127.0.0.1:0"]),
            };
            holds(&run.output()?, 2, says).context(command)?;
        }
    }
    Ok(())
}

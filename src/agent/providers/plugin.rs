//! Runs a provider's program: a request on its standard input, the answer on its standard output.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use oci::Credentials;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::accounts::Told;
use super::cache::{Answer, Scope};
use super::config::Provider;

/// How long a program may take (the kubelet's).
const TIME_MAX: Duration = Duration::from_secs(60);
/// More is not an answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// What is kept of its complaints.
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    kind: &'static str,
    api_version: &'a str,
    image: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    service_account_token: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    service_account_annotations: &'a BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    cache_key_type: String,
    cache_duration: Option<String>,
    auth: Option<BTreeMap<String, Entry>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
}

/// Asks a provider about a repository. The error never has anything of what the program said: that may be secret, and
/// users read it.
pub(super) async fn call(
    program: &Path,
    provider: &Provider,
    repository: &str,
    told: &Told,
) -> Result<Answer, String> {
    let request = Request {
        kind: "CredentialProviderRequest",
        api_version: &provider.version,
        image: repository,
        service_account_token: &told.token,
        service_account_annotations: &told.annotations,
    };
    let request = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
    let mut child = Command::new(program)
        .args(&provider.args)
        .envs(provider.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // So that what it starts can be ended with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let group = child.id();
    let said = tokio::time::timeout(TIME_MAX, converse(&mut child, &request)).await;
    let said = said.unwrap_or_else(|_| Err(format!("no answer within {} s", TIME_MAX.as_secs())));
    if said.is_err() {
        // A program that has ended and left nobody is no longer there to be killed.
        let group = group.and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let _ = group.map(|group| killpg(group, Signal::SIGKILL));
        let _ = child.wait().await;
    }
    let (status, answer, complaint) = said?;
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint);
        tracing::warn!(
            provider = provider.name,
            complaint = complaint.trim(),
            "a credential provider failed"
        );
        return Err(ended(status));
    }
    read(&answer, &provider.version)
}

type Said = (ExitStatus, Vec<u8>, Vec<u8>);

async fn converse(child: &mut Child, request: &[u8]) -> Result<Said, String> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let tell = async {
        if let Some(mut stdin) = stdin {
            // A program that does not want to know is heard all the same.
            let _ = stdin.write_all(request).await;
        }
        Ok(())
    };
    let complaint = async {
        let (complaint, rest) = beginning(stderr, COMPLAINT_BYTES_MAX).await?;
        if let Some(mut rest) = rest {
            // What is not taken off would stop it.
            let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
        }
        Ok(complaint)
    };
    let answer = async {
        match beginning(stdout, ANSWER_BYTES_MAX).await? {
            (answer, None) => Ok(answer),
            (_, Some(_)) => Err(format!("the answer has more than {ANSWER_BYTES_MAX} bytes")),
        }
    };
    let ((), answer, complaint) = tokio::try_join!(tell, answer, complaint)?;
    let status = child.wait().await.map_err(|error| error.to_string())?;
    Ok((status, answer, complaint))
}

/// The first bytes of a stream, and the rest if there is any.
async fn beginning<R: AsyncRead + Unpin>(from: Option<R>, max: u64) -> Result<(Vec<u8>, Option<R>), String> {
    let mut bytes = Vec::new();
    let Some(from) = from else {
        return Ok((bytes, None));
    };
    let mut part = from.take(max + 1);
    part.read_to_end(&mut bytes)
        .await
        .map_err(|error| error.to_string())?;
    let whole = bytes.len() as u64 <= max;
    Ok((bytes, (!whole).then(|| part.into_inner())))
}

/// How it ended, in the words of Go's libraries.
fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Reads an answer.
fn read(bytes: &[u8], version: &str) -> Result<Answer, String> {
    // The parser's own words would show a piece of what it read.
    let response: Response = serde_json::from_slice(bytes)
        .map_err(|_| "error decoding credential provider plugin response from stdout".to_owned())?;
    if response.kind != "CredentialProviderResponse" {
        return Err("failed to decode CredentialProviderResponse, unexpected Kind".to_owned());
    }
    if response.api_version != version {
        return Err(format!(
            "apiVersion from credential plugin response did not match expected apiVersion:{version}"
        ));
    }
    let scope = match response.cache_key_type.as_str() {
        "Image" => Scope::Image,
        "Registry" => Scope::Registry,
        "Global" => Scope::Global,
        _ => return Err("credential provider plugin did not return a valid cacheKeyType".to_owned()),
    };
    let holds_for = match response.cache_duration.as_deref().map(api::go::parse_nanoseconds) {
        None => None,
        Some(Some(nanos)) => Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))),
        Some(None) => {
            return Err("error decoding credential provider plugin response: cacheDuration".to_owned());
        }
    };
    let credentials = response
        .auth
        .unwrap_or_default()
        .into_iter()
        .map(|(place, entry)| {
            let Entry { username, password } = entry;
            (place, Credentials { username, password })
        });
    Ok(Answer {
        credentials: credentials.collect(),
        scope,
        holds_for,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::config::VERSION;
    use super::*;

    fn response(more: serde_json::Value) -> Result<Answer, String> {
        let mut whole =
            json!({"kind": "CredentialProviderResponse", "apiVersion": VERSION, "cacheKeyType": "Image"});
        let more = more.as_object().unwrap().clone();
        whole.as_object_mut().unwrap().extend(more);
        read(whole.to_string().as_bytes(), VERSION)
    }

    #[test]
    fn answers() {
        let answer =
            response(json!({"cacheDuration": "6h", "auth": {"r.io": {"username": "u", "password": "p"}}}));
        let answer = answer.unwrap();
        assert_eq!(answer.holds_for, Some(Duration::from_secs(6 * 3600)));
        assert_eq!(answer.credentials[0].0, "r.io");
        let nothing = response(json!({"auth": null, "cacheKeyType": "Global", "cacheDuration": "-1s"}));
        let nothing = nothing.unwrap();
        assert_eq!(
            (nothing.credentials.len(), nothing.holds_for),
            (0, Some(Duration::ZERO))
        );
        let wrong = |more| response(more).err().unwrap_or_default();
        assert!(wrong(json!({"kind": "Pod"})).contains("unexpected Kind"));
        assert!(wrong(json!({"apiVersion": "v1"})).contains("did not match expected apiVersion"));
        assert!(wrong(json!({"cacheKeyType": "Pod"})).contains("cacheKeyType"));
        assert!(wrong(json!({"cacheDuration": "soon"})).contains("cacheDuration"));
        let error = read(b"password=hidden", VERSION).err().unwrap_or_default();
        assert!(
            error.contains("error decoding") && !error.contains("hidden"),
            "{error}"
        );
    }

    async fn run(program: &str, args: &[&str]) -> String {
        let provider = Provider {
            name: "test".to_owned(),
            match_images: Vec::new(),
            cached_for: Duration::ZERO,
            version: VERSION.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            tokens: None,
        };
        let answer = call(Path::new(program), &provider, "r.io/app", &Told::default()).await;
        answer.err().unwrap_or_default()
    }

    #[tokio::test]
    async fn programs_that_misbehave_end() {
        let sh = async |script: &str| run("/bin/sh", &["-c", script]).await;
        assert_eq!(sh("exit 7").await, "exit status 7");
        assert_eq!(sh("kill -9 $$").await, "signal: 9");
        assert!(sh("yes").await.contains("more than 1048576 bytes"));
        // It takes no request, and complains at length.
        assert_eq!(sh("head -c 300000 /dev/zero >&2; exit 1").await, "exit status 1");
        assert!(run("/none", &[]).await.contains("No such file"));
    }
}

//! The locked form of a Spin application, as far as running it needs, and what
//! of it cannot be run here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::ImageError;

type Values = BTreeMap<String, Value>;

/// A locked application.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in super::super) struct LockedApp {
    spin_lock_version: u64,
    metadata: Values,
    host_requirements: Values,
    variables: BTreeMap<String, Variable>,
    triggers: Vec<Trigger>,
    pub(super) components: Vec<Locked>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Variable {
    default: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Trigger {
    trigger_type: String,
    trigger_config: Config,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    component: String,
    /// A path, or `{"private": true}`.
    route: Value,
    executor: Option<Executor>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Executor {
    r#type: String,
}

/// One component.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Locked {
    pub(super) id: String,
    metadata: Values,
    source: Source,
    pub(super) env: BTreeMap<String, String>,
    pub(super) files: Vec<File>,
    dependencies: Values,
    host_requirements: Values,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Source {
    digest: Option<String>,
}

/// A static file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct File {
    /// Small content, in base64.
    pub(super) inline: Option<String>,
    /// Digest of other content.
    pub(super) digest: Option<String>,
    /// Where the component sees it.
    pub(super) path: String,
}

fn refuse(why: impl Into<String>) -> ImageError {
    ImageError::Unusable(format!("Spin application: {}", why.into()))
}

impl LockedApp {
    /// Reads a locked application, and refuses what cannot be run here.
    pub(in super::super) fn parse(bytes: &[u8]) -> Result<LockedApp, ImageError> {
        let app: LockedApp = serde_json::from_slice(bytes)
            .map_err(|error| refuse(format!("its locked form is malformed: {error}")))?;
        if app.spin_lock_version > 1 {
            let text = format!(
                "its locked form has version {}, this build knows 1",
                app.spin_lock_version
            );
            return Err(refuse(text));
        }
        let needs = app
            .components
            .iter()
            .flat_map(|component| &component.host_requirements);
        for (name, value) in app.host_requirements.iter().chain(needs) {
            if value.as_str() != Some("optional") {
                return Err(refuse(format!(
                    "it requires {name:?} of its host, which is not offered here"
                )));
            }
        }
        if let Some(other) = app.triggers.iter().find(|trigger| trigger.trigger_type != "http") {
            let text = format!(
                "its trigger of type {:?} is not supported, only \"http\" is",
                other.trigger_type
            );
            return Err(refuse(text));
        }
        Ok(app)
    }

    /// Component and route of every public trigger.
    pub(super) fn routes(&self) -> Result<Vec<(&str, String)>, ImageError> {
        let mut routes = Vec::new();
        for config in self.triggers.iter().map(|trigger| &trigger.trigger_config) {
            let executor = config
                .executor
                .as_ref()
                .map_or("http", |executor| executor.r#type.as_str());
            if !matches!(executor, "http" | "spin" | "") {
                return Err(refuse(format!(
                    "component {:?} wants the executor {executor:?}",
                    config.component
                )));
            }
            if !self
                .components
                .iter()
                .any(|component| component.id == config.component)
            {
                return Err(refuse(format!(
                    "a route leads to {:?}, which is no component",
                    config.component
                )));
            }
            match &config.route {
                Value::String(route) => routes.push((config.component.as_str(), self.based(route))),
                Value::Object(route) if route.get("private") == Some(&Value::Bool(true)) => {}
                other => {
                    return Err(refuse(format!(
                        "component {:?} has the route {other}",
                        config.component
                    )));
                }
            }
        }
        Ok(routes)
    }

    /// A route below the base that the application names, begun with a slash and ended without one.
    fn based(&self, route: &str) -> String {
        let base = |key: &str, inner: &str| {
            let value = self.metadata.get(key)?.get(inner)?;
            value
                .get("base")
                .or(Some(value))
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let base = base("triggers", "http")
            .or_else(|| base("trigger", "base"))
            .unwrap_or_default();
        let all = format!("{}/{}", base.trim_end_matches('/'), route.trim_start_matches('/'));
        let all = if all.starts_with('/') {
            all
        } else {
            format!("/{all}")
        };
        match all.trim_end_matches('/') {
            "" => "/".to_owned(),
            plain => plain.to_owned(),
        }
    }

    /// Where a component may connect to, variables filled in with their defaults.
    pub(super) fn allowed_outbound_hosts(&self, component: &Locked) -> Result<Vec<String>, ImageError> {
        let list = |key: &str| {
            let texts = component.metadata.get(key).and_then(Value::as_array);
            let texts = texts.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect::<Vec<_>>()
        };
        // What applications of the first manifest version said.
        let old = list("allowed_http_hosts")
            .into_iter()
            .map(|host| match host.as_str() {
                "insecure:allow-all" => "*://*:*".to_owned(),
                _ if host.contains("://") => host,
                _ => format!("*://{host}"),
            });
        let all = list("allowed_outbound_hosts").into_iter().chain(old);
        all.map(|text| self.filled_in(&text)).collect()
    }

    fn filled_in(&self, text: &str) -> Result<String, ImageError> {
        let mut done = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").unwrap_or((after, ""));
            let name = name.trim();
            let value = self
                .variables
                .get(name)
                .and_then(|variable| variable.default.as_ref());
            let value = value.ok_or_else(|| {
                refuse(format!(
                    "the allowed host {text:?} needs the variable {name:?}, which has no default"
                ))
            })?;
            done.push_str(before);
            done.push_str(value);
            rest = after;
        }
        done.push_str(rest);
        Ok(done)
    }
}

impl Locked {
    /// The digest of its program.
    pub(super) fn program(&self) -> Result<&str, ImageError> {
        if let Some(name) = self.dependencies.keys().next() {
            return Err(refuse(format!(
                "component {:?} depends on {name:?}, which is not composed in: push it with composition",
                self.id
            )));
        }
        let digest = self.source.digest.as_deref();
        digest.ok_or_else(|| refuse(format!("component {:?} names no program", self.id)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn app(extra: Value) -> Result<LockedApp, ImageError> {
        let mut whole = json!({
            "spin_lock_version": 1,
            "metadata": {"name": "shop", "triggers": {"http": {"base": "/shop/"}}},
            "variables": {"where": {"default": "example.com"}, "secret": {}},
            "triggers": [
                {"id": "a", "trigger_type": "http", "trigger_config": {"component": "web", "route": "/..."}},
                {"id": "b", "trigger_type": "http", "trigger_config": {"component": "web", "route": "hello/"}},
                {"id": "c", "trigger_type": "http",
                 "trigger_config": {"component": "inner", "route": {"private": true}, "executor": {"type": "http"}}},
            ],
            "components": [
                {"id": "web", "source": {"content_type": "application/wasm", "digest": "sha256:1"},
                 "metadata": {"allowed_outbound_hosts": ["https://{{ where }}:443"], "allowed_http_hosts": ["a.com"]}},
                {"id": "inner", "source": {"digest": "sha256:2"}, "dependencies": {"x:y/z": {}}},
            ],
        });
        for (key, value) in extra.as_object().unwrap() {
            whole[key] = value.clone();
        }
        LockedApp::parse(whole.to_string().as_bytes())
    }

    #[test]
    fn routes_and_hosts() {
        let app = app(json!({})).unwrap();
        let routes = app.routes().unwrap();
        assert_eq!(
            routes,
            [("web", "/shop/...".to_owned()), ("web", "/shop/hello".to_owned())]
        );
        let [web, inner] = &app.components[..] else {
            panic!("two components")
        };
        let hosts = app.allowed_outbound_hosts(web).unwrap();
        assert_eq!(hosts, ["https://example.com:443", "*://a.com"]);
        assert_eq!(web.program().unwrap(), "sha256:1");
        assert!(
            inner
                .program()
                .unwrap_err()
                .to_string()
                .contains("depends on \"x:y/z\"")
        );
    }

    #[test]
    fn the_old_base_and_none() {
        let with = |metadata: Value| app(json!({"metadata": metadata})).unwrap().based("/...");
        assert_eq!(with(json!({"trigger": {"base": "/old"}})), "/old/...");
        assert_eq!(with(json!({})), "/...");
        assert_eq!(app(json!({"metadata": {}})).unwrap().based("/"), "/");
    }

    #[test]
    fn what_is_not_offered_is_named() {
        let text = |extra| app(extra).unwrap_err().to_string();
        assert!(
            text(json!({"host_requirements": {"local_service_chaining": "required"}}))
                .contains("local_service")
        );
        assert!(app(json!({"host_requirements": {"local_service_chaining": "optional"}})).is_ok());
        assert!(text(json!({"triggers": [{"trigger_type": "redis"}]})).contains("\"redis\""));
        assert!(text(json!({"spin_lock_version": 2})).contains("version 2"));
        let app = app(json!({})).unwrap();
        assert!(
            app.filled_in("{{secret}}")
                .unwrap_err()
                .to_string()
                .contains("\"secret\"")
        );
    }
}

//! The file that configures plugins: `apiserver.config.k8s.io/v1` AdmissionConfiguration. Of the plugins here only
//! PodSecurity has anything to configure.

use std::path::{Path, PathBuf};

use api::value;
use serde_json::Value;

use super::pod_security::{Level, PodSecuritySettings, Standard, Version};

/// Reads the file, and the one that it names for PodSecurity.
///
/// # Errors
/// What is wrong with which.
pub fn read(path: &Path) -> Result<PodSecuritySettings, String> {
    let file = yaml(path)?;
    expect(&file, "apiserver.config.k8s.io/v1", "AdmissionConfiguration")?;
    let mut settings = PodSecuritySettings::default();
    for plugin in value::list(&file, "plugins") {
        let name = value::text(plugin, "name");
        if name != "PodSecurity" {
            return Err(format!(
                "the plugin {name:?} has nothing to configure: leave it out"
            ));
        }
        let own = value::get(plugin, "configuration");
        settings = match value::text(plugin, "path") {
            "" => pod_security(own)?,
            other => {
                let beside = path.parent().map(|folder| folder.join(other));
                let file = beside.unwrap_or_else(|| PathBuf::from(other));
                pod_security(&yaml(&file)?).map_err(|why| format!("{}: {why}", file.display()))?
            }
        };
    }
    Ok(settings)
}

fn yaml(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_saphyr::from_str(&text).map_err(|error| error.to_string())
}

fn expect(file: &Value, version: &str, kind: &str) -> Result<(), String> {
    let is = (value::text(file, "apiVersion"), value::text(file, "kind"));
    if is == (version, kind) {
        return Ok(());
    }
    Err(format!(
        "it is {} of {:?}, but should be {kind} of {version}",
        is.1, is.0
    ))
}

fn pod_security(file: &Value) -> Result<PodSecuritySettings, String> {
    expect(
        file,
        "pod-security.admission.config.k8s.io/v1",
        "PodSecurityConfiguration",
    )?;
    let mut settings = PodSecuritySettings::default();
    let defaults = value::get(file, "defaults");
    settings.defaults.enforce = standard(defaults, "enforce")?;
    settings.defaults.audit = standard(defaults, "audit")?;
    settings.defaults.warn = standard(defaults, "warn")?;
    let names = |key: &str| -> Vec<String> {
        let list = value::list(value::get(file, "exemptions"), key).iter();
        list.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    settings.users = names("usernames");
    settings.namespaces = names("namespaces");
    settings.runtime_classes = names("runtimeClasses");
    Ok(settings)
}

fn standard(defaults: &Value, mode: &str) -> Result<Standard, String> {
    let version_key = format!("{mode}-version");
    let (level, version) = (value::text(defaults, mode), value::text(defaults, &version_key));
    Ok(Standard {
        level: match level {
            "" => Level::Privileged,
            text => Level::parse(text).ok_or_else(|| format!("defaults.{mode}: {text:?} is no level"))?,
        },
        version: match version {
            "" => Version::Latest,
            text => Version::parse(text)
                .ok_or_else(|| format!("defaults.{version_key}: {text:?} is no version"))?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: baseline, enforce-version: v1.30, warn: restricted}
    exemptions: {namespaces: [kube-system], usernames: [ann]}
";

    fn read_text(text: &str) -> Result<PodSecuritySettings, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admission.yaml");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn defaults_and_exemptions_come_from_a_file() {
        let settings = read_text(FILE).unwrap();
        assert_eq!(settings.defaults.enforce.to_string(), "baseline:v1.30");
        assert_eq!(settings.defaults.warn.to_string(), "restricted:latest");
        assert_eq!(settings.defaults.audit.level, Level::Privileged);
        assert_eq!(
            (settings.namespaces, settings.users),
            (vec!["kube-system".to_owned()], vec!["ann".to_owned()])
        );
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let wrong = read_text(&FILE.replace("baseline", "strict")).unwrap_err();
        assert_eq!(wrong, "defaults.enforce: \"strict\" is no level");
        assert!(
            read_text(&FILE.replace("PodSecurity\n", "Other\n"))
                .unwrap_err()
                .contains("nothing to configure")
        );
        assert!(
            read_text("kind: Pod\n")
                .unwrap_err()
                .contains("should be AdmissionConfiguration")
        );
    }
}

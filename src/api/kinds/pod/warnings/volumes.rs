//! Warnings about volumes: sources that have gone out of use, and files that are in each other's way.

use crate::kinds::warnings;
use crate::value::Field;

/// A file in a volume, and what puts it there, if several things do.
struct File<'v> {
    path: &'v str,
    source: String,
}

impl std::fmt::Display for File<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.path)?;
        if self.source.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.source)
        }
    }
}

/// Warnings about a pod's volumes.
pub fn check(spec: &Field, said: &mut Vec<String>) {
    let volumes = spec.items("volumes");
    for volume in &volumes {
        warnings::volume_source(volume, &[], said);
        warnings::claim_spec(&volume.get("ephemeral.volumeClaimTemplate.spec"), said);
    }
    for volume in &volumes {
        overlaps(volume, said);
    }
}

/// Files of one volume of which one takes the other's place, or needs a folder where the other is.
fn overlaps(volume: &Field, said: &mut Vec<String>) {
    let named = |key: &str, kind: &str, name: &str| {
        let source = volume.get(key);
        (
            format!("{kind} {:?}", source.get(name).text()),
            items(&source, ""),
        )
    };
    let plain = [
        named("configMap", "ConfigMap", "name"),
        named("secret", "Secret", "secretName"),
        ("DownwardAPI".to_owned(), items(&volume.get("downwardAPI"), "")),
    ];
    let name = volume.get("name").text();
    for (kind, files) in plain {
        told(name, &kind, files, said);
    }
    let mut all = Vec::new();
    for source in volume.get("projected").items("sources") {
        if source.is_blank() {
            said.push(format!("volume {name:?} (Projected) has no sources provided"));
        }
        all.extend(projected(&source));
    }
    told(name, "Projected", all, said);
}

fn told(volume: &str, kind: &str, files: Vec<File>, said: &mut Vec<String>) {
    for (i, file) in files.iter().enumerate() {
        for other in files.iter().take(i).filter(|other| meet(file.path, other.path)) {
            said.push(format!(
                "volume {volume:?} ({kind}): overlapping paths: {file} with {other}"
            ));
        }
    }
}

/// Whether two paths are the same, or one lies below the other.
fn meet(a: &str, b: &str) -> bool {
    let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
    !a.is_empty() && !b.is_empty() && (a == b || below(a, b) || below(b, a))
}

/// The files of a source whose `items` say where each goes.
fn items<'v>(source: &Field<'v>, shown: &str) -> Vec<File<'v>> {
    let items = source.items("items").into_iter();
    items
        .map(|item| file(&item.get("path"), shown.to_owned()))
        .collect()
}

fn file<'v>(path: &Field<'v>, source: String) -> File<'v> {
    File {
        path: path.text().trim_end_matches('/'),
        source,
    }
}

/// The files of one source of several.
fn projected<'v>(source: &Field<'v>) -> Vec<File<'v>> {
    for (key, kind) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        let at = source.get(key);
        if at.get("items").is_set() {
            return items(&at, &format!("{kind} {:?}", at.get("name").text()));
        }
    }
    let token = source.get("serviceAccountToken");
    if token.is_set() {
        return vec![file(&token.get("path"), "ServiceAccountToken".to_owned())];
    }
    let bundle = source.get("clusterTrustBundle");
    if bundle.is_set() {
        let named = bundle.get("name");
        let name = if named.is_set() {
            named
        } else {
            bundle.get("signerName")
        };
        let source = format!("ClusterTrustBundle {:?}", name.text());
        return vec![file(&bundle.get("path"), source)];
    }
    let certificate = source.get("podCertificate");
    if certificate.is_set() {
        let files = [
            ("certificateChainPath", "PodCertificate chain"),
            ("keyPath", "PodCertificate key"),
            ("credentialBundlePath", "PodCertificate credential bundle"),
        ];
        return files
            .map(|(key, shown)| file(&certificate.get(key), shown.to_owned()))
            .into();
    }
    items(&source.get("downwardAPI"), "DownwardAPI")
}

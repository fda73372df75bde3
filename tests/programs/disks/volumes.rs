//! Volumes as folders: the controller's half of the driver.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use plugins::Status;
use plugins::csi::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerPublishVolumeRequest,
    ControllerPublishVolumeResponse, ControllerUnpublishVolumeRequest, ControllerUnpublishVolumeResponse,
    CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest, DeleteVolumeResponse, Volume,
};

/// The driver. Cheap to clone.
#[derive(Clone)]
pub struct Volumes {
    pub folder: PathBuf,
    pub node: String,
}

impl Volumes {
    pub fn new(folder: PathBuf, node: String) -> Volumes {
        fs::create_dir_all(folder.join("volumes")).expect("a folder");
        Volumes { folder, node }
    }

    /// The folder that is a volume.
    pub fn at(&self, id: &str) -> PathBuf {
        self.folder.join("volumes").join(id)
    }

    /// The file that says how large it is.
    fn size_file(&self, id: &str, of: &str) -> PathBuf {
        self.folder.join("volumes").join(format!("{id}.{of}"))
    }

    pub fn size(&self, id: &str, of: &str) -> i64 {
        let text = fs::read_to_string(self.size_file(id, of)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    pub fn set_size(&self, id: &str, of: &str, bytes: i64) {
        fs::write(self.size_file(id, of), bytes.to_string()).expect("a file");
    }

    /// Writes a call down.
    pub fn note(&self, line: String) {
        let path = self.folder.join("calls");
        let file = fs::OpenOptions::new().create(true).append(true).open(path);
        writeln!(file.expect("a file"), "{line}").expect("a line");
    }

    pub fn create(&self, r: CreateVolumeRequest) -> Result<CreateVolumeResponse, Status> {
        let bytes = r.capacity_range.map_or(0, |range| range.required_bytes);
        if !self.at(&r.name).exists() {
            self.fill(&r.name, r.volume_content_source.as_ref())?;
        }
        fs::create_dir_all(self.at(&r.name)).expect("a folder");
        self.set_size(&r.name, "size", bytes);
        self.set_size(&r.name, "grown", bytes);
        self.note(format!("CreateVolume {} {:?}", r.name, r.volume_content_source));
        Ok(CreateVolumeResponse {
            volume: Some(Volume {
                capacity_bytes: bytes,
                volume_id: r.name,
                volume_context: [("colour".to_owned(), "blue".to_owned())].into(),
                ..Volume::default()
            }),
        })
    }

    pub fn delete(&self, r: DeleteVolumeRequest) -> Result<DeleteVolumeResponse, Status> {
        self.note(format!("DeleteVolume {}", r.volume_id));
        let _ = fs::remove_dir_all(self.at(&r.volume_id));
        for of in ["size", "grown"] {
            let _ = fs::remove_file(self.size_file(&r.volume_id, of));
        }
        Ok(DeleteVolumeResponse {})
    }

    pub fn attach(
        &self,
        r: ControllerPublishVolumeRequest,
    ) -> Result<ControllerPublishVolumeResponse, Status> {
        self.note(format!("ControllerPublishVolume {} {}", r.volume_id, r.node_id));
        Ok(ControllerPublishVolumeResponse {
            publish_context: [("slot".to_owned(), "7".to_owned())].into(),
        })
    }

    pub fn detach(
        &self,
        r: ControllerUnpublishVolumeRequest,
    ) -> Result<ControllerUnpublishVolumeResponse, Status> {
        self.note(format!("ControllerUnpublishVolume {} {}", r.volume_id, r.node_id));
        Ok(ControllerUnpublishVolumeResponse {})
    }

    pub fn expand(&self, r: ControllerExpandVolumeRequest) -> Result<ControllerExpandVolumeResponse, Status> {
        let bytes = r.capacity_range.map_or(0, |range| range.required_bytes);
        self.note(format!("ControllerExpandVolume {} {bytes}", r.volume_id));
        self.set_size(&r.volume_id, "size", bytes);
        Ok(ControllerExpandVolumeResponse {
            capacity_bytes: bytes,
            node_expansion_required: true,
        })
    }
}

"use strict";
(async () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const hidden = new Set();

  // A colour for each label value that is there; the background and what is hidden have none.
  const background = { value: 0, name: "", color: [0, 0, 0] };
  const colors = () => {
    const entries = [background, ...data.labels];
    return {
      I: entries.map((label) => label.value),
      R: entries.map((label) => label.color[0]),
      G: entries.map((label) => label.color[1]),
      B: entries.map((label) => label.color[2]),
      A: entries.map(({ value }) => (value === 0 || hidden.has(value) ? 0 : 255)),
      labels: entries.map((label) => label.name),
    };
  };
  const options = {
    // As the pictures are: the patient's right, or the front, on the left.
    isRadiologicalConvention: true, sagittalNoseLeft: true,
    isColorbar: false, isLegend: false, showLegend: false, logLevel: "error",
    backColor: [0, 0, 0, 1], crosshairColor: [0.43, 0.66, 1, 0.8], crosshairWidth: 1,
    multiplanarShowRender: 0, dragAndDropEnabled: false, loadingText: "",
  };
  const volume = async (base64, name, colormap) =>
    niivue.NVImage.loadFromBase64({ base64, name, colormap });
  const labelMap = async () => {
    const found = await volume(data.label_map, "labels.nii.gz", "gray");
    found.setColormapLabel(colors());
    return found;
  };

  const planes = new niivue.Niivue({
    ...options,
    onLocationChange: (location) => {
      const place = document.getElementById("place");
      const sides = [["left", "right"], ["posterior", "anterior"], ["inferior", "superior"]];
      const mm = Array.from(location.mm).slice(0, 3);
      const value = location.values.length > 1 ? Math.round(location.values[1].value) : 0;
      const label = data.labels.find((one) => one.value === value);
      place.dataset.mm = JSON.stringify(mm);
      place.textContent =
        mm.map((x, i) => `${Math.abs(x).toFixed(1)} mm ${sides[i][x < 0 ? 0 : 1]}`).join(", ") +
        (label ? `: ${label.name}` : "");
    },
  });
  await planes.attachToCanvas(document.getElementById("planes"));
  planes.addVolume(await volume(data.image, "image.nii.gz", "gray"));
  planes.addVolume(await labelMap());
  planes.setOpacity(1, 0.5);
  planes.setInterpolation(true); // labels keep their voxels
  planes.setSliceType(planes.sliceTypeMultiplanar);
  planes.scene.crosshairPos = planes.mm2frac(data.centre);
  planes.createOnLocationChange();
  planes.drawScene();

  const solid = new niivue.Niivue({ ...options, show3Dcrosshair: false });
  await solid.attachToCanvas(document.getElementById("solid"));
  solid.addVolume(await labelMap());
  solid.setSliceType(solid.sliceTypeRender);
  solid.setRenderAzimuthElevation(160, 15);

  const types = {
    multiplanar: planes.sliceTypeMultiplanar, axial: planes.sliceTypeAxial,
    coronal: planes.sliceTypeCoronal, sagittal: planes.sliceTypeSagittal,
  };
  for (const button of document.querySelectorAll("button[data-planes]")) {
    button.addEventListener("click", () => {
      planes.setSliceType(types[button.dataset.planes]);
      for (const other of document.querySelectorAll("button[data-planes]")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
    });
  }
  document.getElementById("opacity").addEventListener("input", (event) => {
    planes.setOpacity(1, Number(event.target.value));
  });
  for (const box of document.querySelectorAll("input[data-label]")) {
    box.addEventListener("change", () => {
      hidden[box.checked ? "delete" : "add"](Number(box.dataset.label));
      planes.volumes[1].setColormapLabel(colors());
      solid.volumes[0].setColormapLabel(colors());
      planes.updateGLVolume();
      solid.updateGLVolume();
    });
  }
  window.volseg = { planes, solid };
  document.body.dataset.ready = "true";
})().catch((error) => {
  // Without WebGL, say: the planes of the picture are there all the same.
  document.getElementById("viewer").hidden = true;
  document.getElementById("preview").classList.remove("print");
  document.body.dataset.ready = "failed";
  document.body.dataset.error = String(error);
});

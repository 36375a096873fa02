// The voxels of masks as OHIF holds them: read, compared, kept small, and painted again.

// Runs of equal values of one slice: each number is a length times 256 and the value.
const LONGEST_RUN = 2 ** 24 - 1;

export function runsOf(values) {
  const runs = [];
  for (let begin = 0, place = 1; place <= values.length; place++) {
    if (place === values.length || values[place] !== values[begin] || place - begin === LONGEST_RUN) {
      runs.push((place - begin) * 256 + values[begin]);
      begin = place;
    }
  }
  return Uint32Array.from(runs);
}

// Calls `each(value, begin, end)` for each run that is no background.
function forRuns(runs, each) {
  let begin = 0;
  for (const run of runs) {
    const end = begin + Math.floor(run / 256);
    if (run % 256) {
      each(run % 256, begin, end);
    }
    begin = end;
  }
}

const service = () => window.services.segmentationService;

export const segmentsOf = segmentationId => Object.values(service().getSegmentation(segmentationId).segments);

// The slices of a mask: each with the image that it lies on.
const slicesOf = segmentationId =>
  service().getSegmentation(segmentationId).representationData.Labelmap.imageIds.map(imageId => {
    const image = window.cornerstone.cache.getImage(imageId);
    return { on: image.referencedImageId, voxels: image.voxelManager };
  });

// A mask as it is now: its label, the names of its segments, and the runs of each slice that is not empty.
export function taken(segmentationId) {
  const slices = [];
  for (const { on, voxels } of slicesOf(segmentationId)) {
    const runs = runsOf(voxels.getScalarData());
    if (runs.some(run => run % 256)) {
      slices.push([on, runs]);
    }
  }
  const names = Object.fromEntries(segmentsOf(segmentationId).map(one => [one.segmentIndex, one.label]));
  return { label: service().getSegmentation(segmentationId).label, names, slices };
}

export const NOTHING = { label: '', names: {}, slices: [] };

export const isEmpty = mask => !mask.slices.length;

// Whether two masks mark the same voxels as the same structures.
export function isSame(one, other) {
  return one.slices.length === other.slices.length && one.slices.every(([on, runs], slice) => {
    const [otherOn, others] = other.slices[slice];
    return on === otherOn && runs.length === others.length && runs.every(
      (run, place) => run === others[place] && (run % 256 === 0 || one.names[run % 256] === other.names[run % 256])
    );
  });
}

// How many voxels each structure has, by its name, and how many voxels are marked on each image.
export function countsOf({ names, slices }) {
  const voxels = {};
  const onSlice = new Map();
  for (const [on, runs] of slices) {
    forRuns(runs, (value, begin, end) => {
      voxels[names[value]] = (voxels[names[value]] ?? 0) + end - begin;
      onSlice.set(on, (onSlice.get(on) ?? 0) + end - begin);
    });
  }
  return { voxels, onSlice };
}

// How many voxels a segment has on each image that shows it.
export function placesOf(segmentationId, segmentIndex) {
  const onSlice = new Map();
  for (const { on, voxels } of slicesOf(segmentationId)) {
    let count = 0;
    for (const value of voxels.getScalarData()) {
      count += value === segmentIndex;
    }
    if (count) {
      onSlice.set(on, (onSlice.get(on) ?? 0) + count);
    }
  }
  return onSlice;
}

export const fullestOf = onSlice => [...onSlice].reduce((best, one) => (one[1] > best[1] ? one : best), ['', 0])[0];

// Makes a mask what another one was; what it holds is replaced.
export function paint(segmentationId, mask) {
  const slices = slicesOf(segmentationId);
  const on = new Map(slices.map(slice => [slice.on, slice]));
  if (mask.slices.some(([image]) => !on.has(image))) {
    throw new Error('The drawing lies on slices that this image does not have; it is kept.');
  }
  const values = valuesIn(segmentationId, mask.names);
  slices.forEach(({ voxels }) => voxels.getScalarData().fill(0));
  for (const [image, runs] of mask.slices) {
    const scalars = on.get(image).voxels.getScalarData();
    forRuns(runs, (value, begin, end) => scalars.fill(values[value], begin, end));
  }
  slices.forEach(({ voxels }) => voxels.setScalarData(voxels.getScalarData()));
  window.cornerstoneTools.segmentation.triggerSegmentationEvents.triggerSegmentationDataModified(segmentationId);
}

// The numbers that the segments of a mask have in another one, which gets those that it lacks.
function valuesIn(segmentationId, names) {
  const numbers = {};
  for (const [value, name] of Object.entries(names)) {
    const known = () => segmentsOf(segmentationId).find(one => one.label === name)?.segmentIndex;
    if (!known()) {
      service().addSegment(segmentationId, { label: name });
    }
    numbers[value] = known();
  }
  return numbers;
}

// Several masks as one.
export function joined(masks) {
  const names = {};
  const numbers = new Map();
  const slices = new Map();
  for (const mask of masks) {
    for (const [on, runs] of mask.slices) {
      const size = runs.reduce((sum, run) => sum + Math.floor(run / 256), 0);
      const values = slices.get(on) ?? slices.set(on, new Uint8Array(size)).get(on);
      forRuns(runs, (value, begin, end) => {
        const name = mask.names[value];
        if (!numbers.has(name)) {
          numbers.set(name, numbers.size + 1);
          names[numbers.get(name)] = name;
        }
        const number = numbers.get(name);
        for (let place = begin; place < end; place++) {
          if (values[place] && values[place] !== number) {
            throw new Error(
              `The masks overlap: ${names[values[place]]} and ${name} claim the same voxels. Erase one of them ` +
              'there, or take one mask out of the view, and press Save again; nothing is stored yet.'
            );
          }
          values[place] = number;
        }
      });
    }
  }
  return { label: masks[0].label, names, slices: [...slices].map(([on, values]) => [on, runsOf(values)]) };
}

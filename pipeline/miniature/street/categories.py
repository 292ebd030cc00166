"""nuScenes-lidarseg's 32 categories, whose numbers the solids of a street are labelled by."""

# As in the category.json that comes with lidarseg: a category's index is its place.
CATEGORIES = (
    "noise",
    "animal",
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.barrier",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    "movable_object.trafficcone",
    "static_object.bicycle_rack",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.car",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.motorcycle",
    "vehicle.trailer",
    "vehicle.truck",
    "flat.driveable_surface",
    "flat.other",
    "flat.sidewalk",
    "flat.terrain",
    "static.manmade",
    "static.other",
    "static.vegetation",
    "vehicle.ego",
)
NOISE = 0
ADULT, CHILD, WORKER = 2, 3, 4
BARRIER, BIN, CONE, RACK = 9, 11, 12, 13
BICYCLE, BENDY_BUS, BUS, CAR, DIGGER, MOTORCYCLE, TRAILER, TRUCK = 14, 15, 16, 17, 18, 21, 22, 23
ROAD, OTHER_FLAT, SIDEWALK, TERRAIN = 24, 25, 26, 27
MANMADE, VEGETATION, EGO = 28, 30, 31

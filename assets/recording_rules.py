"""The rules that select sounds of the packages as recordings of the data set `scenes`: class, path and series.

Labels come from file names, which may be wrong. Nobody listened to the recordings. The spectrograms of animals and of
most objects were inspected one by one, except those of fire and footsteps. For people, drums and instruments, only the
durations and the classes of the nearest neighbours were checked. The following sounds are excluded because their labels
are doubtful: bellows of bulls and wild pigs, all birds except hens, gates of stone, science-fiction guns and palm-muted
guitars. Animals of MegaGlest may be imitations by people.
"""

OAD, GLEST, TEST, UFO = "0ad-data", "megaglest-data", "minetest-data", "ufoai-sound"
FLUID, SONIC, HYDROGEN = "fluid-soundfont-gm", "sonic-pi-samples", "hydrogen-drumkits"
VOICES = {
    "asterisk-core-sounds-en-g722": "allison",  # the same speaker in English and Spanish
    "asterisk-core-sounds-es-g722": "allison",
    "asterisk-core-sounds-fr-g722": "june",
    "asterisk-core-sounds-it-g722": "carlo",
    "asterisk-core-sounds-ru-g722": "maxim",
}
PACKAGES = (OAD, GLEST, TEST, UFO, FLUID, SONIC, HYDROGEN, *VOICES)
PROMPTS = r"/(?:vm-(?!leave)|conf-|queue-|agent-|pbx-|demo-|followme/)[^/]*\.g722"

# class: (package, pattern of the path, series); without a series, the file name without its number is the series
Rule = tuple[str, str, str | None]
RULES: dict[str, list[Rule]] = {
    # animals
    "chicken": [
        (OAD, r"animal/chicken_", None),
        (GLEST, r"units/chicken/", "hens"),
        (GLEST, r"sounds/(rooster|chicken)\.", None),
    ],
    "cattle": [(OAD, r"animal/cattle_", None), (GLEST, r"/cow_", "cows"), (GLEST, r"mudchute_cow", None)],
    "pig": [(OAD, r"animal/pig_", "pigs"), (GLEST, r"commondata/sounds/pig_", "pigs")],
    "sheep": [
        (OAD, r"animal/sheep_", None),
        (OAD, r"death/goat_", None),
        (GLEST, r"units/sheep/sounds/sheep", "sheep"),
    ],
    "elephant": [(OAD, r"animal/elephant_", "elephants"), (GLEST, r"/ele(attack)?\d", "elephant")],
    "horse": [(OAD, r"animal/horse_", "horses"), (OAD, r"fauna/death/death_horse_", None)],
    # people
    "scream": [
        (OAD, r"human/death/", None),
        (UFO, r"civilians/civfem", "women"),
        (UFO, r"civilians/civmale", "men"),
        (UFO, r"soldiers/male", "soldier"),
    ],
    "speech": [(package, PROMPTS, speaker) for package, speaker in VOICES.items()],
    "footstep": [
        (OAD, r"singlesteps/", None),
        (TEST, r"_(wood|gravel|snow|grass|sand|dirt|hard|metal|ice)_footstep", None),
        (UFO, r"footsteps/(carpet|dirt|grass|gravel|sand|snow|stone|tile|wood)", None),
    ],
    # things
    "sword": [(OAD, r"weapon/swordhit", None), (OAD, r"weapon/sword_attack", None), (UFO, r"sword-hit", None)],
    "wood_chop": [
        (OAD, r"lumber_tree_", None),
        (TEST, r"dig_choppy", None),
        (GLEST, r"worker_harvest_wood", None),
    ],
    "door": [
        (TEST, r"doors_(door|glass|steel)", "doors"),
        (TEST, r"doors_fencegate", None),
        (TEST, r"default_chest_", None),
        (TEST, r"xpanes_", None),
        (UFO, r"doors/door\d", "doors"),
        (SONIC, r"perc_door", None),
    ],
    "glass": [(TEST, r"break_glass", None), (UFO, r"breakglass", None)],
    "explosion": [
        (UFO, r"combat-(explosion|rocket-exp)", None),
        (UFO, r"weapons/explosion(-fire|-flashbang|-grenade|-plasma|-rocket)?\.", None),
        (TEST, r"tnt_explode", None),
        (OAD, r"explode_debris", None),
        (SONIC, r"misc_cineboom", None),
    ],
    "collapse": [
        (OAD, r"building_collapse_large|siegeprojectilehit", None),
        (GLEST, r"building_fall", "buildings"),
        (UFO, r"misc/breakwood", None),
    ],
    "gunshot": [
        (OAD, r"Musket_", None),
        (FLUID, r"!Gun$", None),
        (UFO, r"weapons/bullet-chaingun", "chaingun"),
        (UFO, r"weapons/bullet-hmg", "hmg"),
        (UFO, r"weapons/bullet-pistol", "pistol"),
        (UFO, r"weapons/bullet-rifle", "rifle"),
        (UFO, r"weapons/bullet-shotgun", "shotgun"),
        (UFO, r"weapons/bullet-smg", "smg"),
        (UFO, r"weapons/(bullet-sniper|ugv-cannon)", None),
    ],
    "fire": [
        (OAD, r"attack/fire/", None),
        (TEST, r"/fire_fire", None),
        (TEST, r"/fire_(large|small)", None),
        (TEST, r"furnace_active", None),
        (UFO, r"ambience/(fire|smallfire)", None),
        (GLEST, r"wicker_fire", None),
    ],
    "water": [
        (OAD, r"ambient/water/(river|waterfall)", "rivers"),
        (OAD, r"ambient/water/wave", "waves"),
        (TEST, r"env_sounds_water", None),
        (UFO, r"ambience/water", None),
    ],
    "splash": [
        (GLEST, r"water_sounds/water", None),
        (TEST, r"water_footstep", None),
        (UFO, r"footsteps/(splash|water_in|water_out)", "splash"),
        (UFO, r"impact/water-impact", None),
    ],
    "rustle": [
        (OAD, r"foraging/leaves", "leaves"),
        (OAD, r"gathering/gather_field", "field"),
        (OAD, r"gathering/gather_fruit", "fruit"),
    ],
    # drums
    "kick": [
        (SONIC, r"/bd_", None),
        (SONIC, r"(elec|drum)_(soft|hollow|heavy)_kick", None),
        (SONIC, r"drum_bass_", "menegass"),
        (HYDROGEN, r"BJA_Pacific/BD_", "pacific"),
        (HYDROGEN, r"rumpf.*beats_(06-38|06-46|07-18|07-20)", "rumpf"),
        (FLUID, r"!.*(Kick|Bass Drum)", "fluid"),
    ],
    "snare": [
        (SONIC, r"/sn_", None),
        (SONIC, r"elec_\w*snare", "looppool"),
        (SONIC, r"drum_snare", "menegass"),
        (HYDROGEN, r"BJA_Pacific/SN", "pacific"),
        (HYDROGEN, r"rumpf.*beats_(01-21|06-25)", "rumpf"),
        (HYDROGEN, r"Audiophob.*snare", "audiophob"),
        (FLUID, r"!(.*(Snr|Snare)|Piccolo 1-)", "fluid"),
    ],
    "hihat": [
        (SONIC, r"drum_cymbal_(closed|pedal|open)", "menegass"),
        (HYDROGEN, r"BJA_Pacific/HH", "pacific"),
        (HYDROGEN, r"rumpf.*beats_(09-10|06-28|08-31)", "rumpf"),
        (HYDROGEN, r"Audiophob.*hat-", "audiophob"),
        (FLUID, r"!.*(Hi-Hat|Closed Hat|Open Hat)", "fluid"),
    ],
    "cymbal": [
        (SONIC, r"drum_(cymbal_(soft|hard)|splash)", "menegass"),
        (HYDROGEN, r"BJA_Pacific/RD", "pacific"),
        (HYDROGEN, r"rumpf.*beats_(06-43|08-20|06-30|06-40)", "rumpf"),
        (HYDROGEN, r"Audiophob.*crash", "audiophob"),
        (FLUID, r"!.*(Crsh|Crash|Ride|Splash)", "fluid"),
    ],
    "tom": [
        (SONIC, r"drum_tom_", "menegass"),
        (HYDROGEN, r"BJA_Pacific/TM", "pacific"),
        (HYDROGEN, r"rumpf.*beats_08-1[789]", "rumpf"),
        (HYDROGEN, r"Audiophob.*tom", "audiophob"),
        (FLUID, r"!(Tom |.*Studio)", "fluid"),
        (FLUID, r"!808 Tom", "808"),
    ],
    "hand_drum": [
        (HYDROGEN, r"circAfrique.*Djembe", "djembe"),
        (HYDROGEN, r"circAfrique.*Head", "dunun"),
        (SONIC, r"tabla_", "tabla"),
        (FLUID, r"!.*(Conga|Bongo|Tumba)", "fluid"),
    ],
    "bell": [
        (HYDROGEN, r"circAfrique.*Bell", "kenkeni"),
        (HYDROGEN, r"BJA_Pacific/(CB|BL)", "pacific"),
        (HYDROGEN, r"rumpf.*beats_08-32", "rumpf"),
        (SONIC, r"drum_cowbell|perc_bell|elec_(bell|triangle)", None),
        (FLUID, r"!(.*(Agogo|Cow ?Bell|Triangle|Metronome Bell|Sleigh Bells)|808 Cowbell)", "fluid"),
        (FLUID, r"!Tubular Bells", None),
    ],
    # instruments; each sampled instrument is one series
    "piano": [(FLUID, r"!P200 Piano", "grand"), (SONIC, r"ambi_piano", None)],
    "organ": [(FLUID, rf"!{name}", name) for name in ("Church Organ", "Rock Organ", "B3 ", "Drawbar Organ")],
    "acoustic_guitar": [
        *((FLUID, rf"!{name} [A-G0-9]", name) for name in ("Steel", "Nylon", "Banjo")),
        (SONIC, r"guit_(em9|harmonics)", None),
    ],
    "electric_guitar": [(FLUID, rf"!{name} ", name) for name in ("Distortion", "Clean", "Jazz Guitar")],
    "strings": [(FLUID, rf"!{name} [A-G]#?\d", name) for name in ("Violin", "Viola", "Cello", "Bass", "Strings")],
    "brass": [
        (FLUID, r"!French Horns", "horn"),
        (FLUID, r"!trombone", "trombone"),
        (FLUID, r"!Brass Section", "section"),
        (FLUID, r"!tp_", "trumpet"),
    ],
    "flute": [
        (FLUID, rf"!{name} ?[A-Ga-g]#?\d", name) for name in ("Flute", "Piccolo", "pan flute", "Recorder", "Ocar")
    ],
    "saxophone": [(FLUID, rf"!{name} [A-G]", name) for name in ("Alto", "Soprano", "Tenor", "Baritone")],
    "choir": [
        (FLUID, r"!Ahh Choir", "ahh"),
        (FLUID, r"!Ohh Voices", "ohh"),
        (FLUID, r"!solo_vox", "solo"),
        (SONIC, r"ambi_choir", None),
    ],
}
BACKGROUND = "background"
BACKGROUNDS: dict[str, list[Rule]] = {
    "train": [(OAD, r"weather/(wind_11|snowstorm_11)", None)],
    "validation": [(UFO, r"ambience/arcticwind", None)],
    "test": [(OAD, r"weather/windgust_11", None), (GLEST, r"winter/sounds/wind", None)],
}
BACKGROUND_SECONDS = 12.0

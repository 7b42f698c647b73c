/* The library by one name, for C and C++: engine/thimble.h. For more in C++: "engine/story.h", "engine/opening.h". */
#ifndef THIMBLE_INCLUDE_THIMBLE_H_
#define THIMBLE_INCLUDE_THIMBLE_H_

#include "engine/thimble.h"

#endif /* THIMBLE_INCLUDE_THIMBLE_H_ */
